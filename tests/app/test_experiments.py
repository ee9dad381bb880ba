"""Experiments of a real repository, compared and reported: a queue, a small grid, seeds."""

import csv
import io
import json
import re

import dvc.api
import pytest

from tests.helpers import browser
from tests.helpers.project import SHORT, Project


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The demo as the default, and two experiments: the same with another head, and that with another seed."""
    project = Project(tmp_path_factory.mktemp("project"))
    project.exp_run(*SHORT)
    project.commit("the demo is the default")
    sets = [part for override in SHORT for part in ("-S", override)]
    for name, *overrides in (("wide", "head.units=16"), ("other-seed", "head.units=16", "seed=1")):
        project.dvc(
            "exp", "run", "--temp", "-n", name, *sets, *(part for override in overrides for part in ("-S", override))
        )
    return project


@pytest.mark.slow
def test_a_grid_is_queued_as_typed(tmp_path):
    project = Project(tmp_path)
    grid = ["backbone=vgg16,mobilenetv2", "schedule=gradual,full", "dataset=digits", "backbone.weights=none"]
    project.dvc("exp", "run", "--queue", *(part for override in grid for part in ("-S", override)))
    (workspace, head) = json.loads(project.dvc("exp", "show", "--json"))
    queued = [one["revs"][0]["data"]["params"]["params.yaml"]["data"] for one in head["experiments"]]
    grid = {(its["backbone"]["name"], its["backbone"]["image_size"], *its["schedule"]["phases"]) for its in queued}
    assert grid == {
        ("vgg16", 64, "all"),
        ("vgg16", 64, "depth1"),
        ("mobilenetv2", 160, "all"),
        ("mobilenetv2", 160, "depth3"),
    }
    told = project.run("python", "-m", "thaw", "compare", check=False)
    assert told.strip() == "compare: no finished experiment; `dvc exp run` makes one. Left out: 4 queued."


@pytest.mark.slow
def test_what_has_run_is_compared_and_nothing_twice(project):
    project.dvc("exp", "run", "--queue", "-n", "later", "-S", "recipe=demo", "-S", "seed=5")
    output = project.run("python", "-m", "thaw", "compare")
    rows = [
        [cell.strip(" *") for cell in line.strip("|").split("|")] for line in output.splitlines() if line[:1] == "|"
    ]
    titles = ["#", "head.units", "seeds", "test accuracy", "95 % interval", "training, s", "experiments"]
    assert rows[0] == titles
    pairs = next(number for number, row in enumerate(rows) if row[0] == "experiment")
    rows, pairs = rows[:pairs], rows[pairs + 2 :]
    # The last commit, which is also what the workspace holds, and the two of the other head.
    branch = project.git("branch", "--show-current").strip()
    assert {(row[1], row[2], tuple(sorted(row[6].split(", ")))) for row in rows[2:]} == {
        ("null", "0", (branch,)), ("16", "0, 1", ("other-seed", "wide")),
    }  # fmt: skip
    metrics = json.loads((project.folder / "metrics/evaluate.json").read_text())
    assert next(row[3:5] for row in rows[2:] if row[1] == "null") == [
        f"{metrics['accuracy']:.4f}", f"{metrics['accuracy_low']:.4f} to {metrics['accuracy_high']:.4f}",
    ]  # fmt: skip
    # On the same test images, whose predictions lie in DVC's cache alone.
    (best,) = re.findall(r"Against (\S+), the most accurate on these 178 test images", output)
    assert {best, *(row[0] for row in pairs)} == {branch, "wide", "other-seed"}
    assert all(row[-1] in ("yes", "not shown") for row in pairs)
    assert "Left out: 1 queued." in output
    assert output.rstrip().endswith("plots/compare.md and plots/compare.png written")
    assert (project.folder / "plots/compare.md").read_text() in output
    assert (project.folder / "plots/compare.png").read_bytes()[:4] == b"\x89PNG"
    assert project.git("status", "--porcelain") == ""
    project.dvc("queue", "remove", "--all")


@pytest.mark.slow
def test_two_experiments_are_compared_by_name_also_where_predictions_are_not_in_the_cache(project):
    names = ("other-seed", "wide")
    output = project.run("python", "-m", "thaw", "compare", *names)
    right, texts = {}, {}
    for name in names:
        (commit,) = re.findall(rf"(\w+) refs/exps/\S+/{name}\n", project.git("show-ref"))
        texts[name] = dvc.api.read("plots/tables/predictions.csv", str(project.folder), rev=commit)
        predictions = csv.DictReader(io.StringIO(texts[name]))
        right[name] = {row["index"] for row in predictions if row["class"] == row["predicted"]}
    (best,) = re.findall(r"Against (\S+), the most accurate on these 178 test images", output)
    (other,) = set(names) - {best}
    assert len(right[best]) >= len(right[other])
    counts = [str(len(right[other] - right[best])), str(len(right[best] - right[other]))]
    (row,) = (line.split("|") for line in output.splitlines() if line.startswith(f"| {other} "))
    assert [cell.strip() for cell in row[4:6]] == counts

    cache = project.folder / ".dvc/cache/files/md5"
    (table,) = (file for file in cache.rglob("*") if file.is_file() and file.read_bytes() == texts[best].encode())
    moved = table.rename(project.folder.parent / "predictions.csv")
    output = project.run("python", "-m", "thaw", "compare", *names)
    moved.rename(table)
    # Equal tables are one file.
    assert re.search(rf"\nNot compared: .*\b{best}\b.*: predictions not in DVC's cache", output)


@pytest.mark.slow
def test_parameters_that_have_not_run_are_not_told_as_if_they_had(project):
    project.run("python", "-m", "thaw", "params", *SHORT, "head.units=8")
    try:
        assert "Left out: 1 changed since the results there (workspace)." in project.run(
            "python", "-m", "thaw", "compare"
        )
        told = project.run("python", "-m", "thaw", "report", check=False)
        changed = "params.yaml was changed since the results were made (head.units)"
        assert told == f"report: {changed}; run `dvc repro` first\n"
        assert not (project.folder / "report.html").exists()
    finally:
        project.git("checkout", "--", ".")


@pytest.mark.slow
@pytest.mark.parametrize("revision", [None, "wide", "HEAD"])
def test_a_page_of_the_workspace_a_commit_or_an_experiment(project, revision):
    status = project.git("status", "--porcelain", "--ignored", "--", ":!*.html")
    command = ["python", "-m", "thaw", "report", *([revision] if revision else [])]
    output = project.run(*command, PYTHONDONTWRITEBYTECODE="1")
    assert project.git("status", "--porcelain", "--ignored", "--", ":!*.html") == status
    path = project.folder / output.split()[0]
    assert path.name == (f"report-{revision}.html" if revision else "report.html")
    text = path.read_text(encoding="utf-8")
    metrics = json.loads((project.folder / "metrics/evaluate.json").read_text())
    if revision == "wide":
        references = project.git("for-each-ref", "--format=%(refname)", "refs/exps").split()
        experiment = next(name for name in references if name.endswith("/wide"))
        metrics = json.loads(project.git("show", f"{experiment}:metrics/evaluate.json"))
    assert re.findall(r"<dd>(.*?)</dd>", text)[0] == f"{metrics['accuracy']:.4f}"
    assert "images classified correctly before the transfer" in text
    # The commands compose the parameters, the base is the commit that the experiment began from.
    head = project.git("rev-parse", "HEAD")[:12]
    assert f"git checkout {head}" in text
    assert ("dvc exp apply wide" in text) == (revision == "wide")
    assert ("-S head.units=16" in text) == (revision == "wide")
    assert "-S recipe=demo" in text
    (seen,) = browser.measured([path], (390,)).values()
    assert seen["scroll"] <= 390
    # A chart, and both galleries image by image.
    assert len(seen["images"]) == text.count("<img ") > 20 and all(seen["images"])
    assert seen["loaded"] == []


@pytest.mark.slow
def test_what_is_no_revision_or_has_no_results_is_told(project):
    accepted = "a finished experiment (`dvc exp list` names them), or a commit, branch or tag"
    for revision in ("no-such", "HEAD^{tree}", ""):
        told = project.run("python", "-m", "thaw", "report", revision, check=False)
        assert told == f"report: received {revision or 'nothing'}; accepted: {accepted}\n"
    (project.folder / "params.yaml").write_text("seed: [\n")
    try:
        told = project.run("python", "-m", "thaw", "report", check=False)
    finally:
        project.git("checkout", "--", "params.yaml")
    assert told == "params.yaml, line 2: not a YAML file\n"
    told = project.run("python", "-m", "thaw", "report", "HEAD^", check=False)
    assert told.startswith("report: HEAD^ has no dvc.lock in git or in DVC's cache")
    (project.folder / "dvc.lock").write_text("{}\n")
    try:
        told += project.run("python", "-m", "thaw", "report", check=False)
    finally:
        project.git("checkout", "--", "dvc.lock")
    last = told.splitlines()[-1]
    assert last.startswith("report: the workspace has results of another version of thaw (no 'stages')")
    assert "Traceback" not in told

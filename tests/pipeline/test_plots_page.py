"""The templates of `dvc plots show`: the drawing code is that of DVC's own page, and charts say what is so."""

import hashlib
import html
import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml
from dvc_render.vega import VegaRenderer

from tests.helpers import browser
from thaw.figures.style import PHASES

PLOTS = Path(__file__).parents[2] / ".dvc/plots"
spec = importlib.util.spec_from_file_location("make_page", PLOTS / "make_page.py")
make_page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_page)


def test_the_template_holds_the_scripts_as_they_were_published():
    page = (PLOTS / "page.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>/\* (\S+) (\S+) \*/\n(.*?)</script>", page, re.DOTALL)
    found = tuple((package, version, hashlib.sha256(code.encode()).hexdigest()) for package, version, code in scripts)
    assert found == make_page.SCRIPTS


def test_the_scripts_are_of_the_versions_that_dvcs_own_page_loads():
    loaded = re.findall(r"npm/([a-z-]+)@([0-9.]+)", VegaRenderer.SCRIPTS)
    assert loaded == [(package, version) for package, version, _ in make_page.SCRIPTS]


def test_all_but_the_scripts_is_what_make_page_writes():
    page = (PLOTS / "page.html").read_text(encoding="utf-8")
    start, end = make_page.PAGE.split("LICENSE")[0], make_page.PAGE.split("SCRIPTS")[1]
    assert page.startswith(start)
    assert page.endswith(end)


def filled(name: str, rows: list[dict[str, str]]) -> str:
    """A chart of dvc.yaml, by its name or title, for these rows of its table, as DVC fills its template."""
    plots = yaml.safe_load((PLOTS.parent.parent / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    charts = (item for plot in plots if isinstance(plot, dict) for item in plot.items())
    chart = next(chart for found, chart in charts if name in (found, chart["title"]))
    # A column, or {file: column}, or {file: columns}, whose values DVC puts into one.
    columns = [next(iter(chart[axis].values())) if isinstance(chart[axis], dict) else chart[axis] for axis in "xy"]
    x, y = ("value" if isinstance(column, list) else column for column in columns)
    rows = [{"rev": "workspace"} | row for row in rows]
    spec = VegaRenderer(rows, name, template=chart["template"], template_dir=str(PLOTS), x=x, y=y, title=chart["title"])
    return json.dumps(spec.get_filled_template())


def opened(divs: str, folder: Path) -> str:
    """The page as a browser has it, with these plots of DVC, without its scripts."""
    page, template = folder / "chart.html", (PLOTS / "page.html").read_text(encoding="utf-8")
    page.write_text(template.replace("{refresh_tag}", "").replace("{plot_divs}", divs), encoding="utf-8")
    return html.unescape(re.sub(r"<script.*?</script>", "", browser.opened(page), flags=re.DOTALL))


def div(name: str, spec: str) -> str:
    return f'<div id="{name}"><script>vegaEmbed("#{name}", {spec}, {{renderer: "svg"}})</script></div>'


def drawn(title: str, rows: list[dict[str, str]], folder: Path) -> str:
    """A chart of dvc.yaml as a browser draws it, as SVG, for these rows of its table."""
    return opened(div("chart", filled(title, rows)), folder)


# Three of four cats are taken for dogs, and so is the frog; nothing is taken for a frog.
CONFUSED = [("cat", "cat"), ("cat", "dog"), ("cat", "dog"), ("cat", "dog"), ("dog", "dog"), ("frog", "dog")]


@pytest.mark.parametrize(
    ("title", "number", "expected"),
    [
        ("Confusion on the test split", "images", {("cat", "cat"): "1", ("cat", "dog"): "3", ("frog", "dog"): "1"}),
        (
            "Confusion, as shares of the actual class",
            "share",
            {("cat", "cat"): "25%", ("cat", "dog"): "75%", ("frog", "dog"): "100%"},
        ),
    ],
)
def test_confusion_is_square_and_its_shares_are_of_the_actual_class(tmp_path, title, number, expected):
    svg = drawn(title, [{"actual": actual, "predicted": predicted} for actual, predicted in CONFUSED], tmp_path)
    for axis in ("X-axis titled 'predicted'", "Y-axis titled 'actual'"):
        assert f"{axis} for a discrete scale with 3 values: cat, dog, frog" in svg
    pattern = rf'aria-label="predicted: (\w+); actual: (\w+); {number}: ([0-9]+%?)"'
    cells = {(actual, predicted): value for predicted, actual, value in re.findall(pattern, svg)}
    nothing = "0%" if number == "share" else "0"
    dogs = "100%" if number == "share" else "1"
    names = ["cat", "dog", "frog"]
    assert cells == {(a, p): nothing for a in names for p in names} | expected | {("dog", "dog"): dogs}


def test_the_legend_of_curves_shows_which_line_is_validation(tmp_path):
    rows = [
        {"epoch": str(epoch), "phase": "head", "field": field, "value": "0.5"}
        for field in ("val_accuracy", "train_accuracy")
        for epoch in range(3)
    ]
    svg = drawn("Accuracy", rows, tmp_path)
    legend = svg[svg.index("legend titled 'split'") :]
    dashes = re.findall(r'stroke="#[^>]+stroke-dasharray="([^"]+)"', legend[: legend.index("role-legend-title")])
    assert len(set(dashes)) == 2, "each of its own, in a colour that is seen"
    assert re.findall(r">(\w+)</text>", legend)[:2] == ["validation", "training"]


def test_an_accuracy_on_test_images_has_a_line_for_its_interval_and_no_other_score_has_one(tmp_path):
    bounds = {("test", "accuracy"): {"low": "0.6", "high": "0.9"}}
    rows = [
        {"of": of, "score": score, "value": "0.8", **bounds.get((of, score), {"low": "nan", "high": "nan"})}
        for of in ("val", "test")
        for score in ("accuracy", "F1")
    ]
    svg = drawn("plots/tables/scores.csv", rows, tmp_path)
    assert re.findall(r'aria-roledescription="(bar|rule mark)"', svg).count("bar") == 4
    (line,) = re.findall(r'aria-label="([^"]*)"[^>]*aria-roledescription="rule mark"', svg)
    assert "0.6" in line and "0.9" in line
    # As tables of before had neither column.
    svg = drawn(
        "plots/tables/scores.csv", [{key: row[key] for key in ("of", "score", "value")} for row in rows], tmp_path
    )
    assert 'aria-roledescription="rule mark"' not in svg


HISTORY = [
    {"epoch": str(epoch), "phase": "head", "field": field, "value": value, "val_accuracy": value, "val_loss": "1"}
    for epoch, value in enumerate(["0.25", "0.75", "0.5"])
    for field in ("val_accuracy", "train_accuracy")
]


def test_a_ring_marks_the_epoch_that_a_phase_kept(tmp_path):
    svg = drawn("Accuracy", HISTORY, tmp_path)
    (ring,) = re.findall(r'aria-label="([^"]*)"[^>]*aria-roledescription="point"[^>]*fill="transparent"', svg) or [""]
    assert "0.75" in ring


def test_curves_of_two_runs_are_one_chart_with_head_before_the_workspace_and_one_run_is_not_named(tmp_path):
    both = [row | {"rev": run} for run in ("workspace", "HEAD") for row in HISTORY]
    svg = drawn("Accuracy", both, tmp_path)
    assert re.findall(r"legend for [^\"]* with 2 values: (HEAD, workspace)\"", svg), re.findall(r"[Ll]egend[^\"]*", svg)
    assert "workspace" not in drawn("Accuracy", HISTORY, tmp_path).replace("rev: workspace", "")


def test_bars_of_two_runs_are_in_one_order(tmp_path):
    f1 = {"HEAD": {"cat": "0.9", "dog": "0.5"}, "workspace": {"cat": "0.6", "dog": "0.7"}}
    rows = [
        {"rev": run, "class": name, "f1": value} for run in ("workspace", "HEAD") for name, value in f1[run].items()
    ]
    svg = drawn("plots/tables/per_class.csv", rows, tmp_path)
    assert "Y-axis for a discrete scale with 2 values: cat, dog" in svg
    assert "legend for fill color with 2 values: HEAD, workspace" in svg
    assert svg.count('aria-roledescription="bar"') == 4


def test_the_page_has_a_heading_sections_in_order_and_no_path_and_names_a_single_run_once(tmp_path):
    title = "Scores of cnn on digits, recipe demo, schedule demo, seed 0"
    scores = [{"rev": "workspace", "of": "test", "score": "accuracy", "value": "0.9", "low": "0.85", "high": "0.94"}]
    spec = json.dumps(json.loads(filled("plots/tables/scores.csv", scores)) | {"title": title})
    image = (
        "<div id='plots_figures_{0}_png'><p>plots/figures/{0}.png</p>"
        "<div><p>workspace</p><img src='data:,'></div></div>"
    )
    divs = [div("Accuracy", filled("Accuracy", HISTORY)), *map(image.format, ("views", "phases"))]
    page = opened("".join([*divs, div("plots_tables_scores_csv", spec)]), tmp_path)
    body = page[page.index("<body") :]
    assert "<h1>cnn on digits</h1><p>workspace: recipe demo, schedule demo, seed 0</p>" in body
    assert re.search(r"test accuracy</th><td>0.9000<small>\s+95 %: 0.8500 to 0.9400", body)
    assert re.findall("<h2>(.*?)</h2>", body) == ["Result", "Training", "Images"]
    assert re.findall("<h3>(.*?)</h3>", body) == ["Phases", "Views of training images"]
    words = re.sub(r"<[^>]*>", " ", body)
    assert words.count("workspace") == 1
    assert "plots/figures" not in words


def test_before_any_run_the_page_says_so_and_what_to_type(tmp_path):
    page = opened("".join(div(name, "{}") for name in ("Accuracy", "plots_tables_scores_csv")), tmp_path)
    body = page[page.index("<body") :]
    assert "<h1>No results yet</h1>" in body
    assert "dvc repro" in body
    assert "vega-embed" not in body


def test_a_phone_shows_the_page_without_scrolling_sideways(tmp_path):
    page, template = tmp_path / "page.html", (PLOTS / "page.html").read_text(encoding="utf-8")
    names = ("Accuracy", "plots/tables/per_class.csv")
    rows = {names[0]: HISTORY, names[1]: [{"class": "a class with a long name", "f1": "0.5"}]}
    ids = {names[0]: "Accuracy", names[1]: "plots_tables_per_class_csv"}
    divs = "".join(div(ids[name], filled(name, rows[name])) for name in names)
    page.write_text(template.replace("{refresh_tag}", "").replace("{plot_divs}", divs), encoding="utf-8")
    for (_, width), one in browser.measured([page], (1280, 390)).items():
        assert one["scroll"] <= width
        assert one["loaded"] == []


def test_the_colours_of_charts_are_those_of_all_pictures():
    for name in ("phases", "bars"):
        template = (PLOTS / f"{name}.json").read_text(encoding="utf-8")
        assert json.dumps(list(PHASES)) in template, name


def test_every_chart_has_a_title_and_labels():
    plots = yaml.safe_load((PLOTS.parent.parent / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    charts = [chart for plot in plots if isinstance(plot, dict) for chart in plot.values()]
    assert len(charts) == 7
    assert all({"title", "x_label", "y_label"} <= chart.keys() for chart in charts)


def test_the_page_is_made_again_from_its_own_scripts():
    page = (PLOTS / "page.html").read_text(encoding="utf-8")
    assert make_page.page_again(page) == page


def test_a_chart_of_pairs_where_nothing_is_confused_says_so(tmp_path):
    title = "Most confused pairs of classes on the test split"
    svg = drawn(title, [{"pair": "none", "images": "0"}], tmp_path)  # as evaluate writes it
    assert "Y-axis for a discrete scale with 1 value: none" in svg

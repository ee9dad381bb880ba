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


def drawn(title: str, rows: list[dict[str, str]], folder: Path) -> str:
    """A chart of dvc.yaml as a browser draws it, as SVG, for these rows of its table."""
    plots = yaml.safe_load((PLOTS.parent.parent / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    charts = (item for plot in plots if isinstance(plot, dict) for item in plot.items())
    chart = next(chart for name, chart in charts if title in (name, chart.get("title")))
    # A column, or {file: column}, or {file: columns}, whose values DVC puts into one.
    columns = [next(iter(chart[axis].values())) if isinstance(chart[axis], dict) else chart[axis] for axis in "xy"]
    x, y = ("value" if isinstance(column, list) else column for column in columns)
    rows = [{"rev": "workspace"} | row for row in rows]
    spec = VegaRenderer(rows, title, template=chart["template"], template_dir=str(PLOTS), x=x, y=y)
    code = f'vegaEmbed("#chart", {json.dumps(spec.get_filled_template())}, {{renderer: "svg"}})'
    page, template = folder / "chart.html", (PLOTS / "page.html").read_text(encoding="utf-8")
    page.write_text(
        template.replace("{refresh_tag}", "").replace("{plot_divs}", f'<div id="chart"></div><script>{code}</script>'),
        encoding="utf-8",
    )
    return html.unescape(re.sub(r"<script.*?</script>", "", browser.opened(page), flags=re.DOTALL))


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
    svg = drawn("Scores", rows, tmp_path)
    assert re.findall(r'aria-roledescription="(bar|rule mark)"', svg).count("bar") == 4
    (line,) = re.findall(r'aria-label="([^"]*)"[^>]*aria-roledescription="rule mark"', svg)
    assert "0.6" in line and "0.9" in line
    # As tables of before had neither column.
    svg = drawn("Scores", [{key: row[key] for key in ("of", "score", "value")} for row in rows], tmp_path)
    assert 'aria-roledescription="rule mark"' not in svg


def test_a_chart_of_pairs_where_nothing_is_confused_says_so(tmp_path):
    title = "Most confused pairs of classes on the test split"
    svg = drawn(title, [{"pair": "none", "images": "0"}], tmp_path)  # as evaluate writes it
    assert "Y-axis for a discrete scale with 1 value: none" in svg

"""The report of a run, as a string and in a browser without a network."""

import html
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import browser
from thaw.app.lockfile import all_stages, computing_stages
from thaw.app.report.curves import COLORS, draw_curves
from thaw.app.report.page import render
from thaw.app.report.read import Run, _frozen
from thaw.app.report.write import write_report
from thaw.config.compose import compose
from thaw.config.naming import flat
from thaw.config.overrides import overrides_for
from thaw.errors import ThawError
from thaw.figures.style import PHASES, PHASES_DARK

ROOT = Path(__file__).parents[2]
SCRIPT = "<script>alert('it's me')</script>"
TEN = "airplane automobile bird cat deer dog frog horse ship truck".split()


def gallery(actual, predicted, side):
    """Test images with their rows, as evaluate writes them."""
    row = {"index": "7", "label": "0", "class": actual, "predicted": predicted, "confidence": "0.984"}
    return [row] * 3, np.full((3, side, side, 3), 200, np.uint8)


def png(width, height):
    content = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 200, np.uint8)).save(content, "png")
    return content.getvalue()


def history(phases):
    rows, epoch = [], 0
    for number, phase in enumerate(phases):
        for step in range(4):
            epoch += step > 0
            rows.append({
                "epoch": epoch, "phase": phase, "best": step == 3, "learning_rate": 1e-3 / step if step else None,
                "train_loss": 1 / (1 + epoch) if step else None,
                "train_accuracy": 1 - 1 / (2 + epoch) if step else None,
                "val_loss": 1.2 / (1 + epoch), "val_accuracy": 0.9 - 0.8 / (1 + epoch) + number / 100,
            })  # fmt: skip
    return rows


def bounds(known):
    return {"low": "0.795", "high": "0.82881"} if known else {"low": "nan", "high": "nan"}


def run_of(classes, *overrides, matrix=None):
    """A run of made-up figures, with the real parameters of some overrides."""
    params = compose(list(overrides))
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(classes)), 20)
    guesses = np.where(random.random(len(labels)) < 0.8, labels, random.integers(0, len(classes), len(labels)))
    shown = matrix or classes
    phases = ["head", *params["schedule"]["phases"]]
    scores = {
        "accuracy": 0.8125,
        "accuracy_low": 0.795,
        "accuracy_high": 0.82881,
        "macro_f1": 0.80111,
        "macro_precision": 0.79,
        "macro_recall": 0.81,
        "loss": 0.61,
    }
    on = {"backend": "tensorflow", "cores": 2, "device": "cpu (2 cores)", "precision": "float32", "xla": False,
          "processor": "x86_64", "versions": {"keras": "3", "python": "3.11"}}  # fmt: skip
    return Run(
        name="workspace",
        commit="0123456789abcdef0123456789abcdef01234567",
        experiment=False,
        changed=[],
        params=params,
        defaults=compose([]),
        overrides=list(overrides),
        metrics=scores | {"calibration_error": 0.021, "calibration_error_uncalibrated": 0.0567,
                          "loss_uncalibrated": 0.72, "train_accuracy": 0.9, "val_accuracy": 0.82},
        spent={stage: {"seconds": 30.5, "peak_gb": 0.5} for stage in all_stages(params)},
        provenance=dict.fromkeys(computing_stages(params), on),
        checkpoint={"classes": classes, "history": history(phases), "thawed": dict.fromkeys(phases, "blocks"),
                    "temperature": 1.312},
        source={"history": []},
        data="abc.dir",
        classes=list(classes),
        tables={
            "scores": [{"of": of, "score": score, "value": "0.8"} | bounds(of == "test" and score == "accuracy")
                       for of in ("train", "val", "test") for score in ("accuracy", "precision", "recall", "F1")],
            "per_class": [{"class": name, "f1": "0.8", "precision": "0.8", "recall": "0.8", "images": "20"}
                          for name in classes],
            "confusion": [{"actual": shown[a], "predicted": shown[b]} for a, b in zip(labels, guesses, strict=True)],
            "confused": [{"pair": f"{classes[0]}, {classes[1]}", "images": "7"}],
        },
        images={"calibration": png(500, 550)},
        galleries={"gallery": gallery(classes[0], classes[0], 32), "mistakes": gallery(classes[0], classes[1], 300)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def ten():
    return run_of(TEN, "backbone=mobilenetv2", "head.units=64")


class Document(HTMLParser):
    """What a document is made of."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(text)


def test_the_numbers_are_those_of_the_metrics(ten):
    tiles = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>(?:<dd|</div>)", render(ten)))
    assert tiles == {
        "test accuracy": "0.8125", "macro F1": "0.8011", "macro precision": "0.7900", "macro recall": "0.8100",
        "loss, nats": "0.6100", "calibration error": "0.0210", "training time": "2 min", "peak memory": "0.50 GB",
    }  # fmt: skip


def test_the_balanced_accuracy_has_a_tile_where_it_is_told(ten):
    assert "balanced accuracy" not in render(ten)
    text = render(replace(ten, metrics=ten.metrics | {"balanced_accuracy": 0.71239}))
    assert "<dt>balanced accuracy</dt><dd>0.7124</dd>" in text


def test_a_phase_that_kept_its_start_is_told(ten):
    assert "start kept" not in render(ten)
    history = [
        row | {"best": row["best"] if row["phase"] != "depth3" else row["learning_rate"] is None}
        for row in ten.checkpoint["history"]
    ]
    text = " ".join(render(replace(ten, checkpoint=ten.checkpoint | {"history": history})).split())
    assert text.count('<td class="number">start kept</td>') == 1
    assert "depth3: no epoch was better on validation than the weights that the phase started from." in text


def test_an_accuracy_on_test_images_has_its_interval(ten):
    text, words = render(ten), "0.7950 to 0.8288"
    assert re.findall(r'<dt>([\w ]+)</dt><dd>[^<]*</dd><dd class="interval">95 %: (.*?)</dd>', text) == [
        ("test accuracy", words)
    ]
    rows = re.findall(r'<th scope="row">(train|val|test)</th>.*?<td class="number">(.*?)</td>', text, re.DOTALL)
    assert rows == [("train", ""), ("val", ""), ("test", words)]


def test_results_of_a_version_without_intervals_have_a_page(ten):
    metrics = {name: value for name, value in ten.metrics.items() if not name.startswith("accuracy_")}
    scores = [{"of": row["of"], "score": row["score"], "value": row["value"]} for row in ten.tables["scores"]]
    text = render(replace(ten, metrics=metrics, tables=ten.tables | {"scores": scores}))
    assert "<dd>0.8125</dd></div>" in text and " to 0." not in text and "Wilson" not in text


def test_versions_other_than_the_installed_ones_are_told_under_reproduction(ten):
    text = html.unescape(render(ten))
    assert "These results were made with keras 3 and python 3.11; installed are" in text.partition("Reproduction")[2]
    versions = {name: version(name) for name in ("keras", "numpy")}
    same = dict.fromkeys(ten.provenance, ten.provenance["extract"] | {"versions": versions})
    assert "installed" not in render(replace(ten, provenance=same)).partition("Reproduction")[2]


def test_the_document_is_whole_and_loads_nothing(ten):
    document = Document(render(ten))
    assert document.open == []
    tags = [tag for tag, _ in document.elements]
    assert not {"script", "link", "iframe", "object"} & set(tags)
    for _, attributes in document.elements:
        assert all(attributes[name].startswith("data:") for name in ("src", "href", "srcset") if name in attributes)
        assert attributes.get("xlink:href", "#").startswith("#")
    assert "url(" not in render(ten) and "@import" not in render(ten)


def test_an_identifier_is_used_once_and_references_find_theirs(ten):
    elements = Document(render(ten)).elements
    identifiers = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)
    assert {attributes["xlink:href"][1:] for tag, attributes in elements if tag == "use"} <= set(identifiers)


def test_the_same_run_gives_the_same_bytes(ten):
    assert render(ten) == render(ten)


def test_over_fitting_is_told_in_points(ten):
    text = " ".join(render(ten).split())
    assert "90.0 % of training images classified correctly, 81.2 % of test images: 8.8 points fewer." in text
    metrics = ten.metrics | {"train_accuracy": 0.8, "source": {"accuracy": 0.75}, "source_after": {"accuracy": 0.5}}
    text = " ".join(render(replace(ten, metrics=metrics)).split())
    assert "81.2 % of test images: 1.2 points more." in text
    assert "75.0 % of the source task's test images classified correctly before the transfer, 50.0 % after it." in text


def test_calibration_is_told_before_and_after(ten):
    text = " ".join(render(ten).split())
    assert "confidence and accuracy differ by 2.1 points on average" in text
    assert "divided by a temperature of 1.312, fitted on validation images." in text
    assert "Without it (the line) the error is 5.7 points, the loss 0.7200." in text
    # As versions without temperatures have left it.
    metrics = {name: value for name, value in ten.metrics.items() if "uncalibrated" not in name}
    checkpoint = {name: value for name, value in ten.checkpoint.items() if name != "temperature"}
    earlier = render(replace(ten, metrics=metrics, checkpoint=checkpoint))
    assert "2.1 points" in earlier and "temperature" not in earlier


def test_headings_go_down_in_order_and_what_is_seen_is_also_said(ten):
    document = Document(render(ten))
    levels = [int(tag[1]) for tag, _ in document.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    assert all(attributes["alt"] for tag, attributes in document.elements if tag == "img")
    assert all(attributes["aria-label"] for tag, attributes in document.elements if tag == "svg")
    assert all("scope" in attributes for tag, attributes in document.elements if tag == "th")
    tags = [tag for tag, _ in document.elements]
    assert tags.count("caption") == tags.count("table")
    assert all(
        attributes["tabindex"] == "0" for _, attributes in document.elements if attributes.get("class") == "scroll"
    )


def test_the_confusion_matrix_counts_every_image(ten):
    counts = [int(found) for found in re.findall(r"<small>(\d+)</small>", render(ten))]
    assert sum(counts) == len(ten.tables["confusion"]) == 200


def test_where_nothing_is_confused_no_pairs_are_listed(ten):
    assert "Most confused pairs of classes" in render(ten)
    nothing = ten.tables | {"confused": [{"pair": "none", "images": "0"}]}  # as evaluate writes it
    assert "Most confused pairs of classes" not in render(replace(ten, tables=nothing))


def test_whatever_comes_from_outside_is_text(ten):
    params = json.loads(json.dumps(ten.params))
    params["backbone"]["weights"] = f"/data/{SCRIPT}.h5"
    names = [SCRIPT, '" onload="alert(1)', *TEN[2:]]
    run = run_of(names, "backbone=mobilenetv2")
    run = replace(
        run, name=SCRIPT, params=params, changed=[SCRIPT], overrides=[f"backbone.weights={SCRIPT}"], data=SCRIPT,
        checkpoint=run.checkpoint | {"thawed": {"head": SCRIPT}},
    )  # fmt: skip
    text = render(run)
    document = Document(text)
    assert not any(tag == "script" for tag, _ in document.elements)
    assert not any(name.startswith("on") for _, attributes in document.elements for name in attributes)
    assert text.count("&lt;script&gt;") >= 6
    assert f"/data/{SCRIPT}.h5" in document.text


def test_a_hundred_classes_are_shown_by_their_best_and_worst():
    names = [f"class{number}" for number in range(100)]
    text = render(run_of(names, matrix=[f"group{number // 5}" for number in range(100)]))
    assert text.count('scope="row">group') == 20
    assert "All 100 classes" in text
    # Without superclasses: a cell for each pair, with its numbers in the tooltip.
    text = render(run_of(names))
    assert 'class="matrix dense"' in text
    assert len(re.findall(r'<td class="(?:right|wrong)', text)) == 100 * 100


def test_parameters_that_conf_has_otherwise_are_marked(ten):
    marked = {html.unescape(name) for name in re.findall(r'<code class="changed">(.*?)</code>', render(ten))}
    assert {"backbone.name", "backbone.alpha", "head.units", "head.pool"} <= marked
    assert not marked & {"head.learning_rate", "seed"}
    assert len(re.findall(r'<th scope="row"><code', render(ten))) == len(flat(ten.params))


@pytest.mark.parametrize(("chosen", "shown"), [("null", "truck"), ("dog", "dog"), ("0", "airplane")])
def test_the_gallery_says_whose_images_it_has(chosen, shown):
    text = render(run_of(TEN, f"evaluate.gallery_class={chosen}"))
    assert f"<h3>Test images of {shown}, the first ones of the split</h3>" in text


def test_a_misclassified_image_has_both_classes_in_its_caption(ten):
    def words(run):
        return re.sub(r" +", " ", re.sub(r"<[^>]*>", "", render(run)))

    text = words(ten)
    assert f"predicted {TEN[0]} (98\u00a0%)\n" in text
    assert f"predicted {TEN[1]} (98\u00a0%), actual {TEN[0]}\n" in text
    assert "No test image is misclassified" not in text
    none = ten.galleries | {"mistakes": ([], np.zeros((0, 32, 32, 3), np.uint8))}
    assert "No test image is misclassified" in words(replace(ten, galleries=none))


def test_commands_of_a_workspace_a_commit_and_an_experiment(ten):
    checkout, again = ("git checkout 0123456789ab", "the code"), "dvc exp run -S backbone=mobilenetv2 -S head.units=64"
    assert [command for command, _ in ten.commands()] == [checkout[0], again]
    commands = replace(ten, name="pedal-jerk", experiment=True, overrides=["head.pool='a b'"]).commands()
    assert [command for command, _ in commands][1:] == [
        "dvc exp apply pedal-jerk", """dvc exp run -S 'head.pool='"'"'a b'"'"''""",
    ]  # fmt: skip
    assert replace(ten, overrides=None).commands()[1][0] == "dvc repro"
    long = replace(ten, overrides=["backbone=vgg16", f"backbone.weights=/{'x' * 80}"]).commands()[1][0]
    assert long == f"dvc exp run \\\n    -S backbone=vgg16 \\\n    -S backbone.weights=/{'x' * 80}"


@pytest.mark.parametrize(
    ("overrides", "shortest"),
    [
        ([], []),
        (["recipe=class-split", "seed=3"], ["recipe=class-split", "seed=3"]),
        (["recipe=class-split", "schedule=full"], ["recipe=class-split", "schedule=full"]),
        (["backbone=cnn", "augment=strong", "schedule=full"], ["backbone=cnn", "schedule=full", "augment=strong"]),
        (["class_weights={cat: 2, dog: 0.5}"], ["class_weights={cat:2,dog:0.5}"]),
        (["backbone.weights='/a b/c,d.h5'"], ["backbone.weights='/a b/c,d.h5'"]),
        (["schedule=recipe/vgg16-gradual", "~schedule.phases.depth1", "schedule.phases.depth2.after=head"], None),
        (["head.learning_rate=1e-5", "head.units=null"], ["head.units=null", "head.learning_rate=1e-05"]),
    ],
)  # fmt: skip
def test_parameters_are_typed_again_in_the_fewest_values(overrides, shortest):
    params = compose(overrides)
    found = overrides_for(params)
    assert flat(compose(found)) == flat(params)
    if shortest is not None:
        assert sorted(found) == sorted(shortest)


def test_parameters_that_no_words_compose_have_no_words(ten):
    params = json.loads(json.dumps(ten.params))
    params["class_weights"] = {"it's, a: class": 2}
    assert overrides_for(params) is None


def test_every_epoch_on_the_scale_has_a_marker_with_its_numbers():
    rows = history(["head", "all"])
    drawing = draw_curves(rows, "accuracy", "val_accuracy", "train_accuracy")
    expected = [
        f"{row['phase']}, epoch {row['epoch']}: {row[column]:.4g}"
        for phase in ("head", "all")
        for column in ("val_accuracy", "train_accuracy")
        # The first row, before any training, lies below the scale.
        for row in rows[1:]
        if row["phase"] == phase and row[column] is not None
    ]
    assert re.findall("<title>(.*?)</title>", drawing) == expected
    positions = re.findall(r'<use [^>]*x="([0-9.]+)" y="([0-9.]+)"', drawing)
    assert all(0 <= float(x) <= 360 and 0 <= float(y) <= 230.4 for x, y in positions)


def test_curves_have_the_colours_of_their_chips_which_the_page_defines_for_light_and_dark():
    phases = [f"phase{number}" for number in range(COLORS + 1)]
    drawing = draw_curves(history(phases), "loss", "val_loss")
    # All but these would be seen on one of the two backgrounds alone.
    assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", drawing)) == {
        "none", "var(--soft)", "var(--rule)", *(f"var(--p{number})" for number in range(COLORS)),
    }  # fmt: skip
    run = run_of(TEN)
    rows = history(["head", "all"])
    text = render(replace(run, checkpoint=run.checkpoint | {"history": rows}))
    assert all(
        f"--p{number}: {color};" in text for colors in (PHASES, PHASES_DARK) for number, color in enumerate(colors)
    )
    assert re.findall(r'background:var\(--(p\d)\)" aria-hidden="true"></span>(\w+)<', text)[-2:] == [
        ("p0", "head"), ("p1", "all"),
    ]  # fmt: skip


def test_the_text_of_curves_is_text():
    drawing = draw_curves(history(["head"]), "accuracy", "val_accuracy")
    assert re.findall(r"<text[^>]*>(.*?)</text>", drawing)[:5] == ["0", "1", "2", "3", "epoch"]


def test_the_document_of_a_drawing_is_left_out():
    drawing = draw_curves(history(["head"]), "accuracy", "val_accuracy")
    assert drawing.startswith("<svg")
    assert "metadata" not in drawing


def test_curves_of_what_was_not_trained_say_so(ten):
    rows = [row | {"best": True} for row in history(["head"])[:1]]
    assert draw_curves(rows, "accuracy", "val_accuracy") is None
    assert draw_curves(rows, "learning rate", "learning_rate", zoom=False) is None
    text = render(replace(ten, checkpoint=ten.checkpoint | {"history": rows}))
    assert "No learning rate: nothing was trained." in text


@pytest.mark.slow
def test_a_browser_shows_all_of_it_at_either_width_without_scrolling_sideways(ten, tmp_path):
    names = [f"a class with a long name {number}" for number in range(100)]
    pages = [tmp_path / f"{number}.html" for number in (10, 20, 100)]
    for path, run in zip(pages, (ten, run_of(names[:20]), run_of(names)), strict=True):
        path.write_text(render(run), encoding="utf-8")
    seen = browser.measured(pages, (1280, 390))
    assert set(seen) == {(path.name, width) for path in pages for width in (1280, 390)}
    for (_, width), one in seen.items():
        assert one["scroll"] <= width
        assert one["images"] == [500, *[32] * 3, *[160] * 3]
        assert one["loaded"] == []


def test_a_browser_tells_what_is_too_wide_or_is_asked_for(tmp_path):
    (tmp_path / "wide.html").write_text(
        '<body><div style="width:600px">wide</div><img src="http://localhost:9/none.png"></body>', encoding="utf-8"
    )
    one = browser.measured([tmp_path / "wide.html"], (390,))["wide.html", 390]
    assert one["scroll"] > 390
    assert one["images"] == [0]
    assert one["loaded"] == ["http://localhost:9/none.png"]


def test_without_results_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ThawError, match="params.yaml: not found; run from the root of a checkout"):
        write_report(None)
    with pytest.raises(ThawError, match="report: you are not inside of a DVC repository"):
        write_report("HEAD")


def test_stages_that_dvc_freeze_keeps_from_running_are_found():
    stages = {"download": {"cmd": "a"}, "train_head": {"cmd": "b", "frozen": True}, "unfreeze": {"do": {"cmd": "c"}}}
    assert _frozen({"stages": stages}) == ["train_head"]

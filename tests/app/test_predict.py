"""What `thaw predict` prints: predictions in every form, refused files, and the exit code."""

import csv
import io
import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.helpers.examples import example_images
from tests.helpers.project import ROOT
from thaw.__main__ import main
from thaw.app.commands import predict
from thaw.app.predict import Predictor, as_csv, as_json, as_table, class_number, prediction_rows
from thaw.errors import ThawError
from thaw.evaluation.views import further_views
from thaw.images.read import read_images
from thaw.network.build import build_network
from thaw.network.checkpoint import CheckpointInfo, save_checkpoint
from thaw.network.inference import predict_logits, softmax
from thaw.stage import read_params

CLASSES = ["cat", "dog", "long-eared owl"]
SHARES = np.array([[0.2, 0.5, 0.3], [0.9, 0.06, 0.04]])


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Run `thaw predict` with a model that calls every image a dog: its exit code, standard output and error."""

    class StandIn:
        info = SimpleNamespace(classes=CLASSES)

        def __init__(self, *options):
            pass

        def probabilities(self, images, reach):
            assert (images.shape[1:], images.dtype) == ((32, 32, 3), np.uint8)
            return np.tile(SHARES[:1], (len(images), 1))

    monkeypatch.setattr(predict, "model_folder", lambda folder: tmp_path)
    monkeypatch.setattr(predict, "read_checkpoint_info", lambda folder: SimpleNamespace(input_size=32))
    monkeypatch.setattr(predict, "read_params", lambda: read_params(ROOT / "params.yaml"))
    monkeypatch.setattr(predict, "set_up_backend", lambda *arguments: None)
    monkeypatch.setattr("thaw.app.predict.Predictor", StandIn)

    def run(capsys, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["thaw", "predict", *words])
        code = 0
        try:
            main()
        except SystemExit as error:  # as Python's own: a text is printed, and the code is 1
            code = error.code if isinstance(error.code, int) else 1
            print(error.code, file=sys.stderr)
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def test_bad_files_stop_no_others_and_are_counted(command, capsys, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "c.png"):
        Image.new("RGB", (40, 30), "red").save(folder / name)
    (folder / "b\n.png").write_bytes(b"text")
    (folder / "d.jpg").touch()
    code, found, said = command(capsys, str(folder), str(tmp_path / "none.png"), "--csv", "--top", "1")
    assert found == f"file,rank,class,probability\n{folder}/a.png,1,dog,0.5\n{folder}/c.png,1,dog,0.5\n"
    assert said.splitlines() == [
        rf"{folder}/b\n.png: not a readable image",
        f"{folder}/d.jpg: not a readable image (0 bytes)",
        f"{tmp_path}/none.png: not found",
        "predict: 2 of 5 files read, 3 refused",
    ]
    assert code == 1


def test_the_exit_code_is_0_where_every_file_was_read(command, capsys, tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 30), "red").save(tmp_path / name)
    code, found, said = command(capsys, str(tmp_path), "--json")
    assert (code, len(json.loads(found)), said) == (0, 2, "predict: 2 of 2 files read, 0 refused\n")
    code, found, said = command(capsys, str(tmp_path / "a.png"))
    assert (code, said) == (0, ""), "one file needs no count"
    assert found.startswith(f"{tmp_path}/a.png  dog")


def test_no_readable_file_is_an_error(command, capsys, tmp_path):
    code, found, said = command(capsys, str(tmp_path / "none.png"))
    assert (code, found) == (1, "")
    assert said.splitlines() == [f"{tmp_path}/none.png: not found", "predict: 0 of 1 files read, 1 refused"]


def test_rows_of_csv_are_written_in_order_as_files_are_read(command, capsys, monkeypatch, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in "abcdefg":
        Image.new("RGB", (40, 30), "red").save(folder / f"{name}.png")
    (folder / "d.png").write_bytes(b"text")
    written, read = [], []

    def noted_read(files, *options):
        for file, image in zip(files, read_images(files, *options), strict=True):
            read.append(file)
            yield image

    def noted_rows(files, *results):
        written.append(capsys.readouterr().out)
        assert len(read) <= 2 * len(written) + 1, "no more in memory than a batch, and the damaged file before it"
        return prediction_rows(files, *results)

    monkeypatch.setattr("thaw.app.predict.BATCH", 2)
    monkeypatch.setattr("thaw.app.predict.read_images", noted_read)
    monkeypatch.setattr("thaw.app.predict.prediction_rows", noted_rows)
    code, last, said = command(capsys, str(folder), "--csv", "--top", "1")
    rows = [f"{folder}/{name}.png,1,dog,0.5\n" for name in "abcefg"]
    assert written == ["", "file,rank,class,probability\n" + "".join(rows[:2]), "".join(rows[2:4])]
    assert (code, last) == (1, "".join(rows[4:]))
    assert said == "predict: 6 of 7 files read, 1 refused\n", "the refused one was told before"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # pytest drops what silences Pillow
def test_the_limit_on_pixels_is_an_argument(command, capsys, tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    code, found, said = command(capsys, str(tmp_path / "a.png"), "--max-pixels", "1000")
    assert code == 1
    assert "40 x 30 pixels; accepted: 1,000 of this kind of PNG, by max_pixels=1000" in said
    assert command(capsys, str(tmp_path / "a.png"), "--max-pixels", "1200")[0] == 0


def test_probabilities_have_the_temperature_of_the_checkpoint_in_each_view(tmp_path):
    network, head = build_network("cnn", 16, None, 32), {"pool": "avg", "units": None, "dropout": 0.0}
    network.attach(**head, classes=3)
    info = CheckpointInfo(
        {"name": "cnn", "image_size": 16, "alpha": None, "input_size": 32}, {}, head, CLASSES, temperature=0.3
    )
    save_checkpoint(tmp_path / "model", info, network)
    images = example_images(5).inputs
    views = [images, *further_views(images, 3, mirrored=True)]
    expected = [softmax(predict_logits(network.classifier(), view, 5) / 0.3) for view in views]
    assert np.ptp(expected, axis=0).max() > 1e-3, "or there would be nothing to compare"
    for count in (1, 3):
        predictor = Predictor(tmp_path / "model", count, mirrored=True, batch_size=5)
        assert predictor.info.classes == CLASSES
        for few in (5, 2):  # the second is filled up to a batch
            found = predictor.probabilities(images[:few])
            np.testing.assert_allclose(found, np.mean(expected[:count], axis=0)[:few], atol=1e-5)


def test_the_most_probable_classes_come_first_in_every_form(tmp_path):
    files = [tmp_path / "a.png", tmp_path / "long name.png"]
    found = list(prediction_rows(files, CLASSES, SHARES, top=2))
    assert found[0] == {
        "file": str(files[0]),
        "classes": [{"class": "dog", "probability": 0.5}, {"class": CLASSES[2], "probability": 0.3}],
    }
    assert json.loads(as_json(found)) == found
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [(row["rank"], row["class"]) for row in rows] == [
        ("1", "dog"),
        ("2", CLASSES[2]),
        ("1", "cat"),
        ("2", "dog"),
    ]
    assert rows[3]["file"] == str(files[1])
    places = {tuple(hit.start() for hit in re.finditer("%", line)) for line in as_table(found).splitlines()}
    assert len(places) == 1, "aligned"


def test_a_file_is_one_line_of_the_table_whatever_its_name_holds():
    names = ["a\nb.png", "a,b.png", "caf\udce9.png", "\x1b[2J.png"]  # the third is no text, but bytes
    found = list(prediction_rows(names, CLASSES, np.tile(SHARES[:1], (4, 1)), top=1))
    lines = as_table(found).encode().decode().splitlines()
    assert [line.split()[0] for line in lines] == [r"a\nb.png", "a,b.png", r"caf\udce9.png", r"\x1b[2J.png"]
    assert [row["file"] for row in json.loads(as_json(found))] == names
    assert [row["file"] for row in csv.DictReader(io.StringIO(as_csv(found), newline=""))] == names


def test_a_class_is_found_by_its_name():
    assert class_number("dog", CLASSES) == 1
    with pytest.raises(ThawError, match="--of: received 'fox'; accepted: cat, dog, long-eared owl"):
        class_number("fox", CLASSES)
    with pytest.raises(ThawError, match="of: received 7; accepted: a name, as text, such as '7'$"):
        class_number(7, ["6", "7"], "of")

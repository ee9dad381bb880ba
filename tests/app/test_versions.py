"""What made a result, against what is installed: in words, in the report, in the comparison and before a prediction."""

import argparse
import json
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import pytest

from tests.helpers.project import ROOT
from thaw.app import predict as reading
from thaw.app import versions
from thaw.app.commands import predict
from thaw.app.compare import comparison_table, group_setups
from thaw.app.experiments import Experiment
from thaw.app.versions import model_versions, other_versions, recorded_versions
from thaw.config.compose import compose
from thaw.errors import ThawError
from thaw.images.read import ReadImage
from thaw.stage import read_params

INSTALLED = {"python": "3.13.1", "keras": "3.15.1", "tensorflow": "2.21.0", "numpy": "2.4.6"}
OLD = {"python": "3.13.1", "keras": "3.15.0", "tensorflow": "2.20.0", "numpy": "2.4.6"}
SAID = "made with keras 3.15.0 and tensorflow 2.20.0; installed are 3.15.1 and 2.21.0"


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    monkeypatch.setattr(versions, "_installed", INSTALLED.get)


def record(**changes: str) -> dict:
    return {"backend": "tensorflow", "versions": INSTALLED | changes}


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([record(), record()], None),
        ([], None),
        ([{"versions": OLD}, {"versions": OLD}], SAID),
        ([record(), record(keras="3.15.0")], "made with keras 3.15.0 and 3.15.1; installed is 3.15.1"),
        ([record(jax="0.10.2")], "made with jax 0.10.2; installed is no jax"),
        (
            [record(keras="3", numpy="2", python="3.11")],
            "made with python 3.11, keras 3 and numpy 2; installed are 3.13.1, 3.15.1 and 2.4.6",
        ),
        ([{"backend": "tensorflow"}], None),  # of an earlier thaw
    ],
)
def test_what_differs_is_named_with_what_is_installed(records, said):
    assert other_versions(recorded_versions(records)) == said


def test_installed_versions_are_those_of_the_packages(monkeypatch):
    monkeypatch.undo()
    assert other_versions({"numpy": [version("numpy")]}) is None
    assert other_versions({"numpy": ["1.0"]}) == f"made with numpy 1.0; installed is {version('numpy')}"


def test_the_comparison_names_the_experiments_that_other_versions_made():
    params = compose([])
    runs = [
        Experiment(name, params | {"seed": seed}, 0.5, 10, recorded_versions([{"versions": made}]))
        for seed, (name, made) in enumerate({"new": INSTALLED, "old": OLD, "older": OLD}.items())
    ]
    text = comparison_table(*group_setups(runs))
    assert text.endswith(f"\n\nold, older: {SAID}.")
    assert "installed" not in comparison_table(*group_setups(runs[:1]))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose phase `top` was made by other versions than `head`."""
    for stage, made in (("unfreeze@top", OLD), ("train_head", INSTALLED)):
        file = tmp_path / f"metrics/provenance/{stage}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"versions": made}))
    (tmp_path / "image.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_checkpoints_versions_are_those_of_its_phase(project):
    assert other_versions(model_versions(project / "models/top")) == SAID
    assert model_versions(project / "models/head") == {name: [made] for name, made in INSTALLED.items()}
    assert model_versions(project / "elsewhere/moved/top") == {}
    (project / "metrics/provenance/unfreeze@top.json").write_text("{")
    assert model_versions(project / "models/top") == {}


@pytest.mark.parametrize(("phase", "said"), [("top", f"predict: models/top was {SAID}\n"), ("head", "")])
def test_a_prediction_says_so_on_standard_error_before_it_begins(project, monkeypatch, capsys, phase, said):
    def stop(*arguments):
        raise ThawError("stop")

    monkeypatch.setattr(predict, "model_folder", lambda folder: folder)
    monkeypatch.setattr(predict, "read_params", lambda: read_params(ROOT / "params.yaml"))
    monkeypatch.setattr(predict, "set_up_backend", stop)
    monkeypatch.setattr(predict, "read_checkpoint_info", lambda folder: SimpleNamespace(input_size=32))
    monkeypatch.setattr(
        reading, "read_images", lambda files, *options: [ReadImage(np.zeros((32, 32, 3), np.uint8), ())]
    )
    arguments = predict_arguments(["image.png", "--model", f"models/{phase}"])
    with pytest.raises(ThawError, match="stop"):
        predict.run(arguments)
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", said)


def predict_arguments(words: list[str]):
    commands = argparse.ArgumentParser().add_subparsers()
    return predict.add_parser(commands).parse_args(words)

"""Two runs compared: what counts as equal, as renamed, as missing."""

import json
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from tools import compare_commits
from tools.compare_commits import KINDS, compare

TABLES = {
    "plots/scores.csv": "of,score,value\ntrain,accuracy,0.50\ntest,accuracy,0.25\n",
    "plots/per_class.csv": "class,f1,pictures\ncat,1.0,3\ndog,nan,4\n",
}


@pytest.fixture
def runs(tmp_path):
    """The folders of two equal runs, an old and a new one."""
    for folder in (tmp_path / "old", tmp_path / "new"):
        for path in ("models/head", "data/features", "plots", "metrics/time", "metrics/provenance"):
            (folder / path).mkdir(parents=True)
        weights = {"dense/kernel": np.arange(6, dtype="float32").reshape(2, 3), "dense/bias": np.ones(3, "float32")}
        save_file(weights, folder / "models/head/head.safetensors")
        np.save(folder / "data/features/depth0-view0.npy", np.arange(4, dtype="float16"))
        (folder / "metrics/evaluate.json").write_text(json.dumps({"accuracy": 0.1, "source": {"accuracy": 0.3}}))
        (folder / "metrics/time/head.json").write_text(json.dumps({"seconds": len(str(folder))}))
        (folder / "metrics/provenance/head.json").write_text(json.dumps({"cores": 2}))
        for path, text in TABLES.items():
            (folder / path).write_text(text)
        (folder / "dvc.lock").touch()
    (tmp_path / "new/metrics/time/head.json").write_text(json.dumps({"seconds": 7}))
    return tmp_path / "old", tmp_path / "new"


def compared(runs, kind: str) -> compare_commits.Comparison:
    return compare(*map(KINDS[kind].files, runs))


def test_equal_runs_are_the_same_whatever_they_took(runs):
    for kind, count in {"tensors": 2, "arrays": 1, "metrics": 2, "tables": 6}.items():
        assert compared(runs, kind) == compare_commits.Comparison(equal=count)


def test_one_bit_of_a_tensor_is_a_difference(runs):
    kernel = np.arange(6, dtype="float32").reshape(2, 3)
    kernel.view("uint32")[1, 2] ^= 1
    save_file({"dense/kernel": kernel, "dense/bias": np.ones(3, "float32")}, runs[1] / "models/head/head.safetensors")
    result = compared(runs, "tensors")
    assert not result.same and result.equal == 1
    assert result.differing[0].startswith("models/head/head.safetensors: dense/kernel: F32 [2, 3]")


def test_minus_zero_and_another_type_are_differences_of_an_array(runs):
    for values in (np.array([-0.0, 1, 2, 3], "float16"), np.arange(4, dtype="float32")):
        np.save(runs[1] / "data/features/depth0-view0.npy", values)
        assert len(compared(runs, "arrays").differing) == 1


def test_the_last_digit_of_a_metric_is_a_difference(runs):
    content = {"accuracy": 0.10000000000000002, "source": {"accuracy": 0.3}}
    (runs[1] / "metrics/evaluate.json").write_text(json.dumps(content))
    assert compared(runs, "metrics").differing == ["metrics/evaluate.json: accuracy: 0.1 -> 0.10000000000000002"]


def test_more_metrics_than_before_are_listed_and_no_difference(runs):
    content = {"accuracy": 0.1, "source": {"accuracy": 0.3}, "loss": 0.7}
    (runs[1] / "metrics/evaluate.json").write_text(json.dumps(content))
    result = compared(runs, "metrics")
    assert result.same and result.only_new == ["metrics/evaluate.json: loss"]


def test_tables_are_equal_by_value_not_by_digits(runs):
    (runs[1] / "plots/scores.csv").write_text(TABLES["plots/scores.csv"].replace("0.50", "0.5"))
    assert compared(runs, "tables").equal == 6


def test_a_renamed_column_is_compared_and_listed(runs):
    renamed = TABLES["plots/per_class.csv"].replace("pictures", "images")
    (runs[1] / "plots/per_class.csv").write_text(renamed)
    result = compared(runs, "tables")
    assert result.same and result.renamed == ["plots/per_class.csv: pictures -> images"]
    (runs[1] / "plots/per_class.csv").write_text(renamed.replace("dog,nan,4", "dog,nan,5"))
    differs = "plots/per_class.csv: images: 1 of 2 rows, the first in row 2: 4.0 -> 5.0"
    assert compared(runs, "tables").differing == [differs]


def test_a_column_of_an_unknown_new_name_is_matched_by_its_values(runs):
    (runs[1] / "plots/scores.csv").write_text(TABLES["plots/scores.csv"].replace("of,", "split,"))
    assert compared(runs, "tables").renamed == ["plots/scores.csv: of -> split"]


def test_a_file_in_a_new_folder_is_compared_and_listed(runs):
    (runs[1] / "plots/tables").mkdir()
    (runs[1] / "plots/scores.csv").unlink()
    (runs[1] / "plots/tables/scores.csv").write_text(TABLES["plots/scores.csv"].replace("0.25", "0.26"))
    result = compared(runs, "tables")
    assert result.renamed == ["plots/scores.csv -> plots/tables/scores.csv"]
    assert [line.split(":")[0] for line in result.differing] == ["plots/tables/scores.csv"]


def test_a_file_of_an_unknown_new_name_is_matched_by_its_values(runs):
    (runs[1] / "models/head").rename(runs[1] / "models/top")
    assert compared(runs, "tensors").renamed == ["models/head/head.safetensors -> models/top/head.safetensors"]


def test_a_missing_file_is_a_difference_and_a_new_one_is_none(runs):
    (runs[1] / "plots/scores.csv").unlink()
    result = compared(runs, "tables")
    assert not result.same and result.only_old == ["plots/scores.csv"]
    assert compared(runs[::-1], "tables").only_new == ["plots/scores.csv"] and compared(runs[::-1], "tables").same


def test_fewer_rows_are_a_difference(runs):
    (runs[1] / "plots/scores.csv").write_text("of,score,value\ntrain,accuracy,0.5\n")
    assert compared(runs, "tables").differing[0] == "plots/scores.csv: of: 2 rows -> 1 rows"


def test_the_script_tells_what_differs_and_fails(runs, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["compare_commits", *map(str, runs)])
    assert compare_commits.main() == 0
    (runs[1] / "metrics/evaluate.json").write_text(json.dumps({"accuracy": 0.2, "source": {"accuracy": 0.3}}))
    (runs[1] / "metrics/provenance/head.json").write_text(json.dumps({"cores": 4}))
    capsys.readouterr()
    assert compare_commits.main() == 1
    told = capsys.readouterr().out
    assert "  metrics/evaluate.json: accuracy: 0.1 -> 0.2\n" in told
    assert "  metrics/provenance/head.json: cores: 2 -> 4\n" in told

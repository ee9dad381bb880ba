"""What is decided for a device, and what the parameters may say against it."""

import keras
import pytest

from thaw import device
from thaw.params import Device

AUTO = Device(xla="auto", precision="auto", data_gb="auto")


@pytest.mark.parametrize(
    ("backend", "kind", "capability", "xla", "precision", "data_gb"),
    [
        ("tensorflow", "cpu", (0, 0), False, "float32", 0.5),
        ("jax", "cpu", (0, 0), True, "float32", 0.5),
        ("tensorflow", "gpu", (9, 0), True, "mixed_bfloat16", 8.0),
        ("jax", "gpu", (8, 0), True, "mixed_bfloat16", 8.0),
        ("tensorflow", "gpu", (7, 5), True, "float32", 8.0),
    ],
)
def test_auto_follows_backend_and_device(backend, kind, capability, xla, precision, data_gb):
    found = device.decide(backend, AUTO, kind, "some", capability)
    assert (found.xla, found.precision, found.data_gb) == (xla, precision, data_gb)


def test_parameters_win_over_what_was_found():
    settings = Device(xla=False, precision="float32", data_gb=2.0)
    found = device.decide("tensorflow", settings, "gpu", "some", (9, 0))
    assert (found.xla, found.precision, found.data_gb) == (False, "float32", 2.0)
    settings = Device(xla=True, precision="mixed_bfloat16", data_gb=0.0)
    found = device.decide("tensorflow", settings, "cpu", "some", (0, 0))
    assert (found.xla, found.precision, found.data_gb) == (True, "mixed_bfloat16", 0.0)


def test_what_was_chosen_is_told_in_one_line(monkeypatch):
    line = str(device.decide(keras.backend.backend(), AUTO, "gpu", "Some GPU", (9, 0)))
    assert keras.backend.backend() in line
    for part in ("on gpu (Some GPU)", ", XLA, ", "mixed_bfloat16", "8 GB"):
        assert part in line
    assert "\n" not in line


def test_the_process_computes_as_was_chosen():
    assert device.chosen.kind == "cpu" or device.chosen.name
    assert keras.config.dtype_policy().name == device.chosen.precision
    assert device.chosen.backend == keras.backend.backend()


def test_provenance_names_what_decides_the_bits():
    found = device.provenance()
    assert found["backend"] == keras.backend.backend()
    assert found["cores"] == device.cores()
    assert set(found["versions"]) == {"python", "keras", "numpy", keras.backend.backend()}
    assert found["versions"]["keras"] == keras.__version__

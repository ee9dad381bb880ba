"""What is decided for a device, and what the parameters may say against it."""

import dataclasses
import gc
import os
import platform
import subprocess
import sys

import keras
import pytest

from tests.helpers.project import ROOT
from thaw.config.schema import Device
from thaw.network.backend import active_device, cores, decide_device, provenance

AUTO = Device(xla="auto", precision="auto")


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
    found = decide_device(backend, AUTO, kind, "some", capability)
    assert (found.xla, found.precision, found.data_gb) == (xla, precision, data_gb)


def test_parameters_win_over_what_was_found():
    settings = Device(xla=False, precision="float32")
    found = decide_device("tensorflow", settings, "gpu", "some", (9, 0), 2.0)
    assert (found.xla, found.precision, found.data_gb) == (False, "float32", 2.0)
    settings = Device(xla=True, precision="mixed_bfloat16")
    found = decide_device("tensorflow", settings, "cpu", "some", (0, 0), 0.0)
    assert (found.xla, found.precision, found.data_gb) == (True, "mixed_bfloat16", 0.0)


@pytest.mark.parametrize(("value", "told"), [("1", "oneDNN"), ("0", "no XLA")])
def test_tensorflow_on_a_cpu_tells_whether_it_computes_with_onednn(monkeypatch, value, told):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", value)
    found = decide_device("tensorflow", AUTO, "cpu", "2 cores", (0, 0))
    assert found.onednn == (value == "1")
    assert f", {told}, " in str(dataclasses.replace(found, backend=keras.backend.backend()))
    assert not decide_device("jax", AUTO, "cpu", "2 cores", (0, 0)).onednn
    assert not decide_device("tensorflow", AUTO, "gpu", "some", (9, 0)).onednn


SWITCH = """
import os
from thaw.config.schema import Device
from thaw.network.backend import provenance, use_backend
use_backend("tensorflow", Device(xla="auto", precision="float32"))
print(os.environ["TF_ENABLE_ONEDNN_OPTS"], provenance()["onednn"])
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="oneDNN's default is TensorFlow's own here")
@pytest.mark.parametrize(("set_to", "said"), [({}, "1 True"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "0 False")])
def test_onednn_is_on_unless_the_environment_says_otherwise(set_to, said):
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    environment |= {"KERAS_BACKEND": "tensorflow"} | set_to
    result = subprocess.run(
        [sys.executable, "-c", SWITCH], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == said


def test_what_was_chosen_is_told_in_one_line():
    line = str(decide_device(keras.backend.backend(), AUTO, "gpu", "Some GPU", (9, 0)))
    assert keras.backend.backend() in line
    for part in ("on gpu (Some GPU)", ", XLA, ", "mixed_bfloat16", "8 GB"):
        assert part in line
    assert "\n" not in line


# A model that XLA can compile on TensorFlow, and one that it cannot, trained for a step each.
COMPILED = """
import sys
from thaw.config.schema import Device
from thaw.network.backend import use_backend
use_backend("tensorflow", Device(xla=sys.argv[1] == "xla", precision="float32"))
import keras
from tests.helpers.examples import augment, example_images
from thaw.network.augmentation import Augmentation
from thaw.training.adam import Adam
from thaw.training.feed import BatchPlan, Feed
examples = example_images(8)
strong = augment(flip=True, translation=0.1, rotation=0.1, zoom=0.1, contrast=0.1)
for layer in (Augmentation(strong), keras.layers.RandomTranslation(0.1, 0.1)):
    x = inputs = keras.Input((32, 32, 3), dtype="uint8")
    x = layer(x)
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(x))))
    feed = Feed(model, examples, 4, mixes=False)
    feed.compile(Adam(0.001))
    feed.fit(examples, BatchPlan.draw(8, 4, 0, 0))
    print(feed.model.jit_compile)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "said"), [("xla", "True False"), ("plain", "False False")])
def test_xla_compiles_what_it_can_where_it_is_asked_for_and_nothing_is_warned_of(how, said):
    environment = os.environ | {"KERAS_BACKEND": "tensorflow"}
    result = subprocess.run(
        [sys.executable, "-c", COMPILED, how], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.stdout.split() == said.split(), result.stderr
    assert result.stderr == ""


def test_the_process_computes_as_was_chosen():
    assert active_device().kind == "cpu" or active_device().name
    assert keras.config.dtype_policy().name == active_device().precision
    assert active_device().backend == keras.backend.backend()


def test_provenance_names_what_decides_the_bits():
    found = provenance()
    assert found["backend"] == keras.backend.backend()
    assert found["cores"] == cores()
    assert set(found["versions"]) == {"python", "keras", "numpy", keras.backend.backend()}
    assert found["versions"]["keras"] == keras.__version__


UNUSED = """
import sys
from thaw.config.schema import Device
from thaw.network.backend import use_backend
use_backend(sys.argv[1], Device(xla="auto", precision="float32"))
print(*sorted({"sklearn", "matplotlib", "jax"} & set(sys.modules)))
import matplotlib.pyplot, sklearn.metrics
"""


def test_a_backend_is_loaded_without_packages_that_only_its_other_parts_use():
    backend = keras.backend.backend()
    environment = os.environ | {"KERAS_BACKEND": backend}
    result = subprocess.run(
        [sys.executable, "-c", UNUSED, backend], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == (["jax"] if backend == "jax" else [])


def test_what_keras_brings_is_never_looked_through_for_garbage():
    assert gc.isenabled()
    assert gc.get_freeze_count() > 100_000


def loaded(code: str, **variables: str) -> str:
    """What a program writes to standard error that runs `code` in place of loading a backend."""
    code = f"import os\nfrom thaw.network.backend import quiet\nwith quiet():\n    {code}\nos.write(2, b'after')"
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment | variables, capture_output=True, text=True
    ).stderr


def test_what_a_backend_writes_while_it_is_loaded_is_not_shown_but_to_those_who_ask():
    noise = "os.write(2, b'noise ')"
    assert loaded(noise) == "after"
    assert loaded(noise, TF_CPP_MIN_LOG_LEVEL="0") == "noise after"


def test_a_crash_while_a_backend_is_loaded_is_told():
    told = loaded("os.abort()")
    assert told.startswith("Fatal Python error: Aborted")
    assert '"<string>", line 4 in <module>' in told


def test_an_error_while_a_backend_is_loaded_is_told():
    assert loaded("raise ImportError('no such library')").endswith("ImportError: no such library\n")

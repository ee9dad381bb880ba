"""Backend and device: set up here alone, before anything imports Keras. Start at `use_backend`.

Backend, device, compiler and precision follow from the parameters and from the hardware. Each stage prints
them: they decide the last bits of every result.
"""

import faulthandler
import gc
import os
import platform
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

from thaw.config.schema import Device
from thaw.errors import ParamError
from thaw.network.replicas import active_replicas
from thaw.runtime.gpus import give_back_gpu
from thaw.runtime.installed import install_command
from thaw.runtime.progress import in_terminal

# Least compute capability of an NVIDIA GPU whose tensor cores compute in bfloat16 (Ampere).
_BFLOAT16 = (8, 0)

# Packages that Keras and TensorFlow import if they are there, for parts that thaw does not use: 2 of 5 s.
_UNUSED = {"tensorflow": ("sklearn", "matplotlib", "pandas", "jax"), "jax": ("sklearn", "matplotlib", "pandas")}

# TensorFlow's switch for oneDNN.
_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"


@dataclass(frozen=True)
class ComputeDevice:
    """Device, compiler and precision of all models of a process.

    Attributes:
        backend: tensorflow or jax.
        kind: cpu or gpu.
        name: name of the GPU, or the number of cores.
        xla: whether XLA compiles models. Plain TensorFlow is faster on a CPU, 4 to 10 times
            for MobileNetV2.
        onednn: whether TensorFlow computes with oneDNN, on a CPU.
        precision: Keras's dtype policy.
        data_gb: gigabytes of training examples that are kept on the device, at most.
    """

    backend: str = "tensorflow"
    kind: str = "cpu"
    name: str = ""
    xla: bool = False
    onednn: bool = False
    precision: str = "float32"
    data_gb: float = 0.5

    def __str__(self) -> str:
        return (
            f"{self.backend} {version(self.backend)} on {self.kind} ({self.name}), "
            f"{what_computes(self.xla, self.onednn)}, {self.precision}, "
            f"examples up to {self.data_gb:g} GB on the device"
        )


def what_computes(xla: bool, onednn: bool) -> str:
    """The compiler or the library that computes models, in words."""
    return "XLA" if xla else "oneDNN" if onednn else "no XLA"


_active = ComputeDevice()


def active_device() -> ComputeDevice:
    """The device that `load_backend` found; before that, a CPU."""
    return _active


def use_backend(backend: str, settings: Device, data_gb: float | Literal["auto"] = "auto") -> ComputeDevice:
    """Make Keras compute deterministically with `backend`, on a GPU where there is one.

    Called before anything imports Keras. A GPU that this process holds is released if the backend does not use it.

    Args:
        backend: tensorflow or jax.
        settings: section `device` of the parameters.
        data_gb: gigabytes of examples to keep on the device.

    Returns:
        The device, which `active_device` returns from now on.

    Raises:
        ParamError: KERAS_BACKEND names another backend, or the backend is not installed.
    """
    device = load_backend(backend, settings, data_gb)
    import keras

    if backend == "tensorflow" and not device.xla:
        import tensorflow as tf

        # Two runs on one machine give the same bits. JAX is deterministic anyway; Keras accepts either this or XLA.
        tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(device.precision)
    if not in_terminal():  # a log would get every redraw of the progress bars of downloaded weights
        keras.config.disable_interactive_logging()
        os.environ.setdefault("TQDM_DISABLE", "1")
    return device


def load_backend(backend: str, settings: Device, data_gb: float | Literal["auto"] = "auto") -> ComputeDevice:
    """Import Keras with `backend` and find the device, without a change to what else the process computes with them.

    Arguments, result and errors are those of `use_backend`, which goes on from here.
    """
    global _active
    _load(backend)
    device = decide_device(backend, settings, *_detect_device(backend), data_gb)
    if device.kind == "cpu":  # a machine with a GPU, too, if the backend was installed without CUDA
        give_back_gpu()
    _active = device
    return device


def decide_device(
    backend: str,
    settings: Device,
    kind: str,
    name: str,
    capability: tuple[int, int],
    data_gb: float | Literal["auto"] = "auto",
) -> ComputeDevice:
    """Replace each `auto` of the settings by its value for a device.

    Args:
        backend: tensorflow or jax.
        settings: section `device` of the parameters.
        kind: cpu or gpu.
        name: name of the device.
        capability: compute capability of a GPU, as (major, minor).
        data_gb: gigabytes of examples to keep on the device.
    """
    gpu = kind == "gpu"
    xla, precision = settings.xla, settings.precision
    if xla == "auto":
        xla = gpu or backend == "jax"
    if precision == "auto":
        precision = "mixed_bfloat16" if gpu and capability >= _BFLOAT16 else "float32"
    if data_gb == "auto":
        # Well below the memory that is free beside a network and its activations.
        data_gb = 8.0 if gpu else 0.5
    onednn = backend == "tensorflow" and not gpu and not xla and os.environ.get(_ONEDNN) == "1"
    return ComputeDevice(backend, kind, name, xla, onednn, precision, data_gb)


def _load(backend: str) -> None:
    environment_backend = os.environ.get("KERAS_BACKEND", backend)
    if environment_backend != backend:
        raise ParamError(
            "backend",
            backend,
            f"{environment_backend}, the value of the environment variable KERAS_BACKEND; change or unset one",
        )
    os.environ["KERAS_BACKEND"] = backend
    prefer_onednn(os.environ)
    try:
        with quiet(), hidden(*_UNUSED[backend]), uncollected():
            import keras  # noqa: F401, imports the backend, too
    except ModuleNotFoundError as error:
        command = install_command("jax" if backend == "jax" else "")
        raise ParamError(
            "backend", backend, f"a backend that is installed; no module {error.name!r}: {command}"
        ) from None
    if backend == "tensorflow":
        import tensorflow as tf

        # TensorFlow warns that functions are traced again, which is normal with several models in one stage.
        tf.get_logger().setLevel("ERROR")


def prefer_onednn(environment: MutableMapping[str, str]) -> None:
    """Have TensorFlow compute with oneDNN in an environment that does not say otherwise; on x86 alone.

    TensorFlow's own default is off where a processor has no AVX512_VNNI. There, too, MobileNetV2 trains 1.3 to 3.1
    times faster with it, and equal runs give equal bits.
    """
    if platform.machine() in ("x86_64", "AMD64"):
        environment.setdefault(_ONEDNN, "1")


def _detect_device(backend: str) -> tuple[str, str, tuple[int, int]]:
    """Kind, name and compute capability of the first device; (0, 0) for a CPU."""
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        if device.platform == "gpu":
            major, minor = str(getattr(device, "compute_capability", "0.0")).split(".")
            return "gpu", device.device_kind, (int(major), int(minor))
    else:
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            details = tf.config.experimental.get_device_details(gpus[0])
            return "gpu", details.get("device_name", "unknown"), details.get("compute_capability", (0, 0))
    return "cpu", f"{cores()} cores", (0, 0)


def provenance() -> dict[str, object]:
    """Backend, device and versions, which decide the bits of a result beside code, parameters and data.

    No time, path or host name is among them: two equal runs write equal files.
    """
    device, replicas = _active, active_replicas().count
    packages = ("keras", device.backend, "numpy")
    return {
        "backend": device.backend,
        "device": f"{device.kind} ({device.name})",
        "xla": device.xla,
        "onednn": device.onednn,
        "precision": device.precision,
        "cores": cores(),
        "processor": platform.machine(),
        **({"replicas": replicas} if replicas > 1 else {}),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def hidden(*packages: str) -> Iterator[None]:
    """Have imports of packages fail that are not imported yet, as if they were not installed."""
    modules: dict[str, Any] = sys.modules
    names = [name for name in packages if name not in modules]
    modules.update(dict.fromkeys(names))
    try:
        yield
    finally:
        for name in names:
            del modules[name]


@contextmanager
def uncollected() -> Iterator[None]:
    """Have the garbage collector never look at what the first import of Keras makes, which stays to the end.

    The import takes a fifth less time, and a whole stage of the demo a quarter.
    """
    if not gc.isenabled() or "keras" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def quiet() -> Iterator[None]:
    """Hide what TensorFlow's C++ prints to stderr while it is imported.

    No log level takes effect before the import. Nothing that matters is lost: errors are raised as exceptions,
    and faulthandler still prints where a crash happened, such as one for a missing processor instruction.
    TF_CPP_MIN_LOG_LEVEL=0 (or 1 or 2) shows everything.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3":
        yield
        return
    sys.stderr.flush()
    stderr, was_enabled = os.dup(2), faulthandler.is_enabled()
    if not was_enabled:
        faulthandler.enable(stderr)
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        if not was_enabled:
            faulthandler.disable()
        os.close(stderr)

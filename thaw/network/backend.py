"""The one place where backend and device are chosen and set up, before anything imports Keras.

Backend, device, compiler and precision follow from the parameters and from what the machine has; what
was chosen is printed, since it decides the last bits of every result.
"""

import faulthandler
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version

from thaw.config.schema import Device
from thaw.errors import ParamError
from thaw.runtime.gpus import give_back_gpu
from thaw.runtime.progress import in_terminal

# First compute capability of NVIDIA whose matrix units take bfloat16 (Ampere).
_BFLOAT16 = (8, 0)


@dataclass(frozen=True)
class ComputeDevice:
    """What computes, and how.

    Attributes:
        backend: tensorflow or jax.
        kind: cpu or gpu.
        name: of the GPU, or the number of cores.
        xla: whether models are compiled by XLA. Plain TensorFlow is faster on a CPU, 4 to 10 times
            for MobileNetV2.
        precision: Keras's dtype policy.
        data_gb: examples of up to so many gigabytes are kept on the device while they are learnt.
    """

    backend: str = "tensorflow"
    kind: str = "cpu"
    name: str = ""
    xla: bool = False
    precision: str = "float32"
    data_gb: float = 0.5

    def __str__(self) -> str:
        compiler = "XLA" if self.xla else "no XLA"
        return (
            f"{self.backend} {version(self.backend)} on {self.kind} ({self.name}), {compiler}, {self.precision}, "
            f"examples up to {self.data_gb:g} GB on the device"
        )


_active = ComputeDevice()


def active_device() -> ComputeDevice:
    """What `use_backend` has set up; a CPU before that."""
    return _active


def use_backend(backend: str, settings: Device) -> ComputeDevice:
    """Make Keras compute with `backend`, repeatably, on the device there is. Called before anything imports Keras.

    A GPU that this process has taken is given back where the backend does not use it.

    Returns:
        What was chosen, which `active_device` gives from here on.

    Raises:
        ParamError: KERAS_BACKEND says otherwise, or the backend is not installed.
    """
    global _active
    _load(backend)
    device = decide_device(backend, settings, *_found(backend))
    if device.kind == "cpu":  # also where there is a GPU, and the backend has no CUDA
        give_back_gpu()
    import keras

    if backend == "tensorflow" and not device.xla:
        import tensorflow as tf

        # Same bits twice on one machine; on JAX that is so without asking. With XLA Keras takes one of the two alone.
        tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(device.precision)
    if not in_terminal():  # the bars of downloads of weights, drawn over and over
        keras.config.disable_interactive_logging()
        os.environ.setdefault("TQDM_DISABLE", "1")
    _active = device
    return device


def decide_device(backend: str, settings: Device, kind: str, name: str, capability: tuple[int, int]) -> ComputeDevice:
    """What `auto` means on a device.

    Args:
        kind: cpu or gpu.
        capability: compute capability of a GPU.
    """
    gpu = kind == "gpu"
    xla, precision, data_gb = settings.xla, settings.precision, settings.data_gb
    if xla == "auto":
        xla = gpu or backend == "jax"
    if precision == "auto":
        precision = "mixed_bfloat16" if gpu and capability >= _BFLOAT16 else "float32"
    if data_gb == "auto":
        # Well within what either has beside a network and its activations.
        data_gb = 8.0 if gpu else 0.5
    return ComputeDevice(backend, kind, name, xla, precision, data_gb)


def _load(backend: str) -> None:
    set_already = os.environ.get("KERAS_BACKEND", backend)
    if set_already != backend:
        raise ParamError(
            "backend", backend, f"{set_already}, which the variable KERAS_BACKEND asks for; unset one of the two"
        )
    os.environ["KERAS_BACKEND"] = backend
    try:
        with quiet():
            import keras  # noqa: F401, with what it loads of the backend
    except ModuleNotFoundError as error:
        project = {"tensorflow": ".", "jax": '".[jax]"'}[backend]
        raise ParamError(
            "backend", backend, f"a backend that is installed; no module {error.name!r}: pip install -e {project}"
        ) from None
    if backend == "tensorflow":
        import tensorflow as tf

        # It warns of functions traced anew, which several models in one stage mean.
        tf.get_logger().setLevel("ERROR")


def _found(backend: str) -> tuple[str, str, tuple[int, int]]:
    """Kind and name of the first device, and a GPU's compute capability."""
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        if device.platform == "gpu":
            major, minor = str(getattr(device, "compute_capability", "0.0")).split(".")
            return "gpu", device.device_kind, (int(major), int(minor))
    else:
        import tensorflow as tf

        listed = tf.config.list_physical_devices("GPU")
        if listed:
            details = tf.config.experimental.get_device_details(listed[0])
            return "gpu", details.get("device_name", "unknown"), details.get("compute_capability", (0, 0))
    return "cpu", f"{cores()} cores", (0, 0)


def provenance() -> dict[str, object]:
    """All that decides the bits of a result besides code, parameters and data: no time, no path, no host."""
    device = _active
    packages = ("keras", device.backend, "numpy")
    return {
        "backend": device.backend,
        "device": f"{device.kind} ({device.name})",
        "xla": device.xla,
        "precision": device.precision,
        "cores": cores(),
        "processor": platform.machine(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what TensorFlow's libraries write to standard error while they are loaded from the screen.

    It comes from C++, before any setting of a log level takes effect; errors come as exceptions, and of a
    crash, as on a processor without what they need, Python tells where it was. Who sets TF_CPP_MIN_LOG_LEVEL
    to 0, 1 or 2 sees all.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3":
        yield
        return
    sys.stderr.flush()
    screen, watched = os.dup(2), faulthandler.is_enabled()
    if not watched:
        faulthandler.enable(screen)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(screen, 2)
        if not watched:
            faulthandler.disable()
        os.close(screen)

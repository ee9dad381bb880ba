"""Shared by the benchmarks: parameters, description of the machine, runs in separate processes."""

import json
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from thaw.runtime.files import replacing

# Whose versions a result depends on.
PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "dvc")


def settings(params) -> dict[str, Any]:
    """Parameters to record, without paths of this machine."""
    content = params.model_dump()
    content["backbone"].pop("weights_file")
    content["dataset"].pop("files")
    for section, key in (("backbone", "weights"), ("dataset", "url"), ("dataset", "path")):
        if "/" in str(content[section][key]):
            content[section][key] = "a file"
    return content


def machine(*packages: str) -> dict[str, Any]:
    """CPU, cores and versions: the results depend on them."""
    from thaw.network.backend import cores

    return {"cpu": _cpu(), "cores": cores(), "python": platform.python_version()} | {
        name: _version(name) for name in packages if _version(name)
    }


def _cpu() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def apart(module: str, *arguments: object) -> Any:
    """Run a benchmark's module in a separate process and return the JSON of its last line."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def write(file: Path, content: dict[str, Any]) -> None:
    with replacing(file) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

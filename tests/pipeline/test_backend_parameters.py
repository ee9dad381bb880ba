"""The parameters that a process has one of, backend and compiler, change an output of each stage that names them.

Stages run in processes of their own, on tiny data; all other parameters are in test_parameters.py.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.helpers.stage_runs import Outputs, Runs, run_apart
from tests.pipeline.test_parameters import PIPELINE, TINY
from thaw.stage import STAGES as WORK

pytestmark = pytest.mark.slow

COMPUTING = [stage for stage in PIPELINE if WORK[stage.partition("@")[0]].keras and stage != "unfreeze@all"]
# In this order: a process of TensorFlow without XLA computes deterministically from then on.
WAYS: dict[str, dict[str, Any]] = {
    "tensorflow, XLA": {"backend": "tensorflow", "device.xla": True},
    "tensorflow": {"backend": "tensorflow"},
    "jax": {"backend": "jax"},
}
STREAMED = ("tensorflow", "jax")


@pytest.fixture(scope="module")
def apart(tmp_path_factory) -> dict[tuple[str, str, bool], Outputs]:
    """The outputs of other processes, by way, stage, and whether images were read batch by batch."""
    folder = tmp_path_factory.mktemp("apart")
    # On TensorFlow XLA compiles nothing that augments.
    runs = Runs(folder / "runs", [*TINY, "augment=none", "augment.views=1"])
    for stage in COMPUTING:
        runs.base(stage)
    keys = [(way, stage, False) for way in WAYS for stage in COMPUTING]
    # What moves the last bit there is BatchNorm in training mode.
    keys += [(way, "backbone", True) for way in STREAMED]

    def run(backend: str) -> dict[tuple[str, str, bool], Outputs]:
        mine = [key for key in keys if WAYS[key[0]]["backend"] == backend]
        jobs = [runs.job(stage, WAYS[way] | ({"run.data_gb": 0} if streamed else {})) for way, stage, streamed in mine]
        return dict(zip(mine, run_apart(jobs, folder / f"{backend}.json"), strict=True))

    with ThreadPoolExecutor() as pool:
        return {key: outputs for part in pool.map(run, ("tensorflow", "jax")) for key, outputs in part.items()}


@pytest.mark.parametrize("stage", COMPUTING)
def test_backend_and_compiler_change_an_output(apart, stage):
    outputs = [apart[way, stage, False] for way in WAYS]
    assert all("refused" not in each for each in outputs)
    assert outputs[0] != outputs[1] != outputs[2]


@pytest.mark.parametrize("way", STREAMED)
def test_where_images_lie_changes_no_output(apart, way):
    assert apart[way, "backbone", True] == apart[way, "backbone", False]

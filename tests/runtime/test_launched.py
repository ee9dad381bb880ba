"""Processes of one stage, as the variables of srun, mpirun and a user tell of them."""

import pytest

from thaw.errors import ThawError
from thaw.runtime.launched import ADDRESS, ALONE, Processes, launched_processes

OURS = {ADDRESS: "host:1234", "JAX_NUM_PROCESSES": "3", "JAX_PROCESS_ID": "2"}
SRUN = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "a,b", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}
MPIRUN = {"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:5", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ALONE),
        (OURS, Processes(3, 2)),
        (SRUN, Processes(2, 0)),
        (MPIRUN, Processes(4, 3)),
        (SRUN | OURS, Processes(3, 2)),
        ({"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}, ALONE),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, ALONE),
    ],
    ids=[
        "none",
        "a user's",
        "srun's",
        "mpirun's",
        "a user's before srun's",
        "one process",
        "in the script of an sbatch",
    ],
)
def test_processes_are_those_that_the_variables_tell_of(environment, expected):
    assert launched_processes(environment) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"JAX_PROCESS_ID": "3"},
            "received JAX_NUM_PROCESSES=3 and JAX_PROCESS_ID=3; accepted: a number of processes, ",
        ),
        (
            {"JAX_PROCESS_ID": "x"},
            "received JAX_NUM_PROCESSES=3 and JAX_PROCESS_ID=x; accepted: a number of processes, ",
        ),
    ],
)
def test_numbers_that_are_none_are_refused(changes, expected):
    with pytest.raises(ThawError) as refused:
        launched_processes(OURS | changes)
    assert str(refused.value).startswith(expected)


@pytest.mark.parametrize(("environment", "missing"), [(OURS, ADDRESS), (MPIRUN, "OMPI_MCA_orte_hnp_uri")])
def test_processes_that_cannot_find_each_other_are_refused(environment, missing):
    """Open MPI 5 tells no address."""
    with pytest.raises(ThawError) as refused:
        launched_processes({name: value for name, value in environment.items() if name != missing})
    assert str(refused.value).startswith(f"{ADDRESS}: received nothing; accepted: HOST:PORT of the first of ")

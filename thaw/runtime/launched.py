"""The processes of one stage that srun, mpirun or a user started; thaw starts none. Start at `launched_processes`."""

from collections.abc import Mapping
from dataclasses import dataclass

from thaw.errors import ThawError

ADDRESS = "JAX_COORDINATOR_ADDRESS"

# Variables with the number of processes and with this one's number: set by the user, by srun, by Open MPI's mpirun. The
# script of an sbatch has not those of srun: what it runs by itself is one process.
_VARIABLES = {
    "": ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"),
    "SLURM_STEP_NODELIST": ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    "OMPI_MCA_orte_hnp_uri": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
}


@dataclass(frozen=True)
class Processes:
    """Processes that compute one stage together.

    Attributes:
        count: of them.
        number: of this one, from 0 on. The first one alone prints, and writes files.
    """

    count: int = 1
    number: int = 0

    @property
    def first(self) -> bool:
        return self.number == 0


ALONE = Processes()


def launched_processes(environment: Mapping[str, str]) -> Processes:
    """The processes that the variables of an environment tell of; one where they tell of none.

    Raises:
        ThawError: the variables are no numbers, or do not tell where the first process is.
    """
    for finds_address, names in _VARIABLES.items():
        if all(name in environment for name in names):
            try:
                count, number = (int(environment[name]) for name in names)
            except ValueError:
                count, number = 1, -1
            if not 0 <= number < count:
                received = " and ".join(f"{name}={environment[name]}" for name in names)
                raise ThawError(f"received {received}; accepted: a number of processes, and one from 0 up below it")
            if count > 1 and ADDRESS not in environment and finds_address not in environment:
                raise ThawError(f"{ADDRESS}: received nothing; accepted: HOST:PORT of the first of {count} processes")
            return Processes(count, number)
    return ALONE

"""Which of several processes this is, as the programs that start ranks together tell it."""

import os

# Rank and number of ranks, as set by the launchers of Open MPI, of MPICH and its kin, and by Slurm's `srun --mpi=pmix`;
# of Slurm alone every process of a job has a number, whether MPI joins them or not.
_LAUNCHERS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),
)


def launched_ranks() -> int:
    """How many processes a launcher has started together; 1 without one."""
    return _launched()[1]


def launched_rank() -> int:
    """Which of them this is."""
    return _launched()[0]


def _launched() -> tuple[int, int]:
    for names in _LAUNCHERS:
        rank, size = (os.environ.get(name, "") for name in names)
        if rank.isdigit() and size.isdigit():
            return int(rank), int(size)
    return 0, 1

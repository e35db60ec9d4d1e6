"""The rank of this process among those started together, as told by their launcher; its machine and its cores."""

import math
import os
from pathlib import Path

# Rank and number of ranks, as set by the launchers of Open MPI, of MPICH and its kin, and by Slurm's `srun --mpi=pmix`;
# of Slurm alone every process of a job has a number, whether MPI joins them or not.
LAUNCHERS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),
)

_become: tuple[int, int] | None = None  # rank and number of ranks of a command that has forked


def become(rank: int, size: int) -> None:
    """Record the rank of this process among those that one command has forked, and their number."""
    global _become
    _become = rank, size


def leads() -> bool:
    """Tell whether signals are for this process to handle: not for a forked one, which hears of them from rank 0."""
    return not (_become and _become[0])


def launched_ranks() -> int:
    """The number of processes that were started together; 1 of a process alone."""
    return _launched()[1]


def launched_rank() -> int:
    """The rank of this process among them; 0 of a process alone."""
    return _launched()[0]


def _launched() -> tuple[int, int]:
    if _become:
        return _become
    for names in LAUNCHERS:
        rank, size = (os.environ.get(name, "") for name in names)
        if rank.isdigit() and size.isdigit():
            return int(rank), int(size)
    return 0, 1


def usable_cores() -> list[int]:
    """The numbers of the cores that this process may use; fewer where a container's share of time is less."""
    try:
        cores = sorted(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = list(range(os.cpu_count() or 1))
    return cores[: _share() or len(cores)]


def _share() -> int | None:
    """Cores' worth of time that a container may take (cgroup v2), None without a limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return None


def machine() -> str:
    """An identifier of this boot of this machine and of its table of processes; OSError where there is no /proc."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")

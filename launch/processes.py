"""The processes of one command: how many there are, and their start."""

import dataclasses
import importlib
import os
from typing import Any

import click

from launch.flags import AUTO, AUTO_WHOLE
from launch.quiet import import_tensorflow
from rlab.errors import BadInputError
from rlab.launchers import launched_ranks, usable_cores
from rlab.parallel import local

_MOST = 16  # workers that are started unasked, as many as the paper's; more are staler than what was measured
_PRELOADED = ("keras", "ale_py", "gymnasium", "envs", "rlab.policies.policy", "rlab.rollout", "rlab.runs")
_SHARE = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE")  # ranks on this machine


processes_option = click.option(
    "--processes",
    "--ranks",
    "processes",
    default=AUTO,
    type=AUTO_WHOLE,
    show_default=True,
    help="processes that share the work, each on cores of its own; mpirun starts them on several machines",
)


def start(agent: str, config: Any, workers: Any, processes: Any, learned_rewards: bool = False) -> Any:
    """Become so many processes, each of which goes on from here as a rank; the config with its number of workers.

    `workers` is a number or AUTO, None of an agent without; `processes` is a number or AUTO. Raises BadInputError for
    more than there can be.
    """
    cores = len(usable_cores())
    if launched_ranks() > 1:
        if processes not in (AUTO, 1):
            raise BadInputError(f"--processes {processes} cannot be used under mpirun, which starts the ranks itself")
        return _with_workers(config, max(1, cores // _ranks_here()) if workers == AUTO else workers)
    if workers == AUTO:
        workers = min(cores, _MOST) if processes == AUTO else max(min(cores, _MOST), processes)
    config = _with_workers(config, workers)
    if processes == AUTO:
        # A model of rewards is one for all environments of a process, and each process would have its own.
        useful = 1 if learned_rewards or not local.possible() else _most_useful(agent, config)
        processes = min(cores, useful)
    if workers is not None and processes > workers:
        raise BadInputError(f"--processes {processes} are more than --workers {workers} that they would share")
    if processes > 1:
        import_tensorflow()
        for name in (*_PRELOADED, f"agents.{agent}"):
            importlib.import_module(name)
        local.fork(processes)
    return config


def _most_useful(agent: str, config: Any) -> int:
    """How many processes at most have something to do, and give what one process gives: of A3C in any order."""
    if agent == "a3c":
        return config.workers
    if agent == "snes":
        from agents.snes import check_sizes

        return config.population // check_sizes(config, 1).group
    return 1


def described(config: Any) -> str:
    """What is said of the workers and the processes at the start, with a comma after it; nothing of a process alone."""
    workers, parts = getattr(config, "workers", 0), []
    if workers:
        parts.append(f"{workers} worker{'s' * (workers > 1)}")
    if local.forked():
        parts.append(f"{launched_ranks()} processes")
    return " in ".join(parts) + ", " if parts else ""


def _with_workers(config: Any, workers: Any) -> Any:
    return config if workers is None else dataclasses.replace(config, workers=workers)


def _ranks_here() -> int:
    """How many of the ranks are on this machine, as far as the launcher says."""
    return next((int(os.environ[name]) for name in _SHARE if os.environ.get(name, "").isdigit()), 1)

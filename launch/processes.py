"""The processes of one command: how many there are, and their start."""

import dataclasses
import importlib
import os
from typing import Any

import click

from launch.flags import AUTO, AUTO_WHOLE
from launch.process import import_tensorflow
from rlab.errors import BadInputError
from rlab.launchers import launched_ranks, usable_cores
from rlab.parallel import local
from rlab.policies.backbone_names import REMEMBERING

_MOST = 16  # workers that are started unasked, as many as the paper's; more are staler than what was measured
_MOST_AT_ONCE = 256  # members of SNES that act in one call unasked
_PRELOADED = ("keras", "ale_py", "gymnasium", "envs", "rlab.policies.policy", "rlab.sampling.rollout", "rlab.runs")
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


def start(
    agent: str, config: Any, workers: Any, processes: Any, learned_rewards: bool = False, deals: bool = False
) -> Any:
    """Fork into ranks, each of which goes on from here; returns the config with its workers or shares.

    `workers` is a number or AUTO, None of an agent without; `processes` is a number or AUTO. Where the agent `deals`
    its batches to ranks, there is a share to each core, if nothing else is asked for. Raises BadInputError for more
    processes than there can be.
    """
    cores = len(usable_cores())
    if launched_ranks() > 1:
        if processes not in (AUTO, 1):
            raise BadInputError(f"--processes {processes} cannot be used under mpirun, which starts the ranks itself")
        return _with(config, workers=max(1, cores // _ranks_here()) if workers == AUTO else workers)
    if agent == "snes" and not config.group:
        config = _with(config, group=_group(config, cores if processes == AUTO else max(cores, processes)))
    if workers == AUTO:
        workers = min(cores, _MOST) if processes == AUTO else max(min(cores, _MOST), processes)
    config = _with(config, workers=workers)
    # A model of rewards is one for all environments of a process, and each process would have its own.
    alone = learned_rewards or not local.possible()
    if deals and not config.shares:
        config = _with(config, shares=1 if alone else _shares(agent, config, cores, processes))
    shares = getattr(config, "shares", 0)
    if processes == AUTO:
        useful = 1 if alone else _most_useful(agent, config)
        processes = _largest_divisor(shares, cores) if shares and not alone else min(cores, useful)
    if workers is not None and processes > workers:
        raise BadInputError(f"--processes {processes} are more than --workers {workers} that they would share")
    if shares % processes:
        raise BadInputError(f"--processes {processes} must divide --shares {shares}, which they share")
    if processes > 1:
        import_tensorflow()
        for name in (*_PRELOADED, f"agents.{agent}"):
            importlib.import_module(name)
        local.fork(processes)
    return config


def deals(agent: str, env: str, backbone: str | None) -> bool:
    """Tell whether a batch of the agent is divided among the cores by default.

    TRPO on vectors with a memory would be slower so: each Fisher-vector product is then a call of its own.
    """
    from envs import is_atari

    return agent == "rpg" or (agent == "trpo" and (backbone not in REMEMBERING or is_atari(env)))


def _shares(agent: str, config: Any, cores: int, processes: Any) -> int:
    """The number of shares: one to each core, as far as a batch divides so, or to each process that is asked for."""
    dealt = config.parallel_envs if agent == "trpo" else config.episodes_per_batch
    found = _largest_divisor(dealt, min(cores, _MOST))
    return found if processes == AUTO or found % processes == 0 else processes


def _group(config: Any, parts: int) -> int:
    """Size of a group such that each part of the machine has one, which acts in one call; 0 where none fits."""
    pair = 2 if config.mirrored else 1
    most = min(config.population // parts, _MOST_AT_ONCE)
    return max((size for size in range(pair, most + 1, pair) if config.population % size == 0), default=0)


def _largest_divisor(number: int, most: int) -> int:
    return max(part for part in range(1, most + 1) if number % part == 0)


def _most_useful(agent: str, config: Any) -> int:
    """The largest number of processes that all have work, and give what one process gives: of A3C in any order."""
    if agent == "a3c":
        return config.workers
    if agent == "snes":
        return config.population // config.of_ranks(1).group
    return 1  # of a run that knows of no shares


def described(config: Any) -> str:
    """The numbers of workers, shares and processes in words, with a comma after them; empty where there is none."""
    workers, shares, parts = getattr(config, "workers", 0), getattr(config, "shares", 0), []
    if workers:
        parts.append(f"{workers} worker{'s' * (workers > 1)}")
    if shares > launched_ranks():
        parts.append(f"{shares} shares")
    if local.forked():
        parts.append(f"{launched_ranks()} processes")
    return " in ".join(parts) + ", " if parts else ""


def _with(config: Any, **changes: Any) -> Any:
    return dataclasses.replace(config, **{name: value for name, value in changes.items() if value is not None})


def _ranks_here() -> int:
    """The number of ranks on this machine, as far as the launcher says; else 1."""
    return next((int(os.environ[name]) for name in _SHARE if os.environ.get(name, "").isdigit()), 1)

"""How the run of an agent begins, and begins again."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlab.errors import BadInputError, launch_command
from rlab.parallel import watch
from rlab.parallel.comm import Communicator, Serial, on_first
from rlab.rewards import REWARDS, model_of, unwrapped
from rlab.runs.checkpoints import Checkpoint, subset
from rlab.runs.directory import Run, describe_factory
from rlab.runs.progress import say


class Beginning(NamedTuple):
    """What an agent needs to know to train."""

    run: Run
    steps: int  # agent steps in all
    target_score: float | None
    checkpoint: Checkpoint | None = None  # to go on from


def begin(
    name: str,
    agent: Any,
    run: str | Path,
    steps: int,
    target_score: float | None = None,
    comm: Communicator | None = None,
) -> Beginning:
    """A new run directory for the agent, which has `config`, `env`, `policy` and `seed`, of all ranks together.

    Raises BadInputError for a number of steps or a target that cannot be, and for a directory that is not free.
    """
    if steps < 1:
        raise BadInputError(f"the number of steps must be at least 1, not {steps}")
    if target_score is not None and not np.isfinite(target_score):
        raise BadInputError(f"the target score must be finite, not {target_score}")
    settings = {
        "agent": name,
        "env": describe_factory(unwrapped(agent.env)),
        "backbone": agent.policy.backbone,
        "seed": agent.seed,
        "steps": steps,
        "target_score": target_score,
        "config": dataclasses.asdict(agent.config),
    }
    if rewards := model_of(agent.env):
        settings["rewards"] = rewards.describe()
    created = on_first(comm or Serial(), lambda: Run.create(run, settings))
    _watch(comm, run)
    return Beginning(created, steps, target_score)


def reopen(
    name: str,
    run: str | Path,
    env: Callable[..., Any],
    steps: int | None = None,
    comm: Communicator | None = None,
) -> Beginning:
    """The agent's run with its newest checkpoint, to go on up to `steps` in all (None: as it was begun).

    Where rewards are learned, `env` goes on with them too.

    With `steps` the run's target score, if it has one, no longer ends it. Raises BadInputError when the run is another
    agent's, and when it has its steps or its target already.
    """

    def open_run() -> Beginning:
        found = find(name, run, steps)
        if found.checkpoint is None:
            say(f"{run} has no checkpoint yet: it begins again")
        return found

    beginning = on_first(comm or Serial(), open_run)
    _watch(comm, run)
    if beginning.checkpoint:
        restore_rewards(env, beginning.checkpoint)
    return beginning


def restore_rewards(env: Callable[..., Any], checkpoint: Checkpoint) -> None:
    """Let the factory's learned rewards, if it has any, go on from a checkpoint."""
    if rewards := model_of(env):
        rewards.restore(subset(checkpoint.arrays, REWARDS))


def find(name: str, run: str | Path, steps: int | None = None) -> Beginning:
    """What `reopen` goes on from, and what it raises, with nothing written."""
    opened = Run.open(run)
    settings = opened.config
    if settings.get("agent") != name:
        raise BadInputError(f"{run} is a run of {settings.get('agent') or settings['task']}, not of {name}")
    target_score = settings.get("target_score") if steps is None else None
    total = steps or settings["steps"]
    checkpoint = opened.latest_checkpoint()
    if checkpoint and checkpoint.steps >= total:
        raise BadInputError(f"{run} has made {checkpoint.steps} steps; give a larger --steps to go on")
    schedule = checkpoint.counters.get("schedule", {}) if checkpoint else {}
    if steps is None and schedule.get("over") and schedule.get("cooling"):  # and not because its steps were done
        raise BadInputError(f"{run} has reached its target score; give a number of --steps to go on")
    return Beginning(opened, total, target_score, checkpoint)


def _watch(comm: Communicator | None, run: str | Path) -> None:
    """Let the ranks watch over each other until the run's loop has ended."""
    if comm:
        watch.begin(comm, f"`{launch_command('resume', run)}` goes on from the last checkpoint")

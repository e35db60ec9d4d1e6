"""The start of an agent's run, new or resumed."""

import contextlib
import dataclasses
import math
import numbers
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rlab.environments import EnvironmentFactory
from rlab.errors import BadInputError, launch_command
from rlab.notify import notify
from rlab.parallel import heartbeat
from rlab.parallel.comm import Communicator, Serial, on_first
from rlab.parallel.meeting import require_same
from rlab.rewards import RewardSettings
from rlab.runs import alike
from rlab.runs.checkpoints import Checkpoint
from rlab.runs.directory import Run
from rlab.runs.lock import require_unlocked
from rlab.settings import check_whole


class RunStart(NamedTuple):
    """The start of an agent's training: its run, length, target and checkpoint."""

    run: Run
    steps: int  # agent steps in all
    target_score: float | None
    checkpoint: Checkpoint | None = None  # to go on from


def begin_run(
    agent: Any,
    run: str | Path,
    steps: int,
    target_score: float | None = None,
    comm: Communicator | None = None,
    checkpoint_every: float = 60.0,
) -> RunStart:
    """A new run directory of all ranks for an agent, which has `config`, `env`, `rewards`, `policy` and `seed`.

    A checkpoint is saved every `checkpoint_every` seconds; 0 is after each update. Once the ranks have met, the agent's
    config becomes the one `with_measurements` of this machine. Raises BadInputError for a number of steps, a target or
    seconds that cannot be, and for a directory that is not free.
    """
    comm, name = comm or Serial(), agent.config.agent
    if comm.size > 1:
        given = {"steps": steps, "seed": agent.seed, "target_score": target_score, "backbone": agent.policy.backbone}
        seen = alike.spaces(agent.policy.observation_space, agent.policy.action_space)
        settings = alike.flags(given | dataclasses.asdict(agent.config))
        require_same(comm, alike.facts("train", name, agent.env, agent.rewards, settings | seen))
    steps = check_whole("the number of steps", steps)
    check_target(target_score)
    check_seconds(checkpoint_every)
    agent.config = agent.with_measurements()
    settings = {
        "agent": name,
        "env": agent.env.description,
        "backbone": agent.policy.backbone,
        "seed": agent.seed,
        "steps": steps,
        "target_score": target_score,
        "checkpoint_every": float(checkpoint_every),
        "config": dataclasses.asdict(agent.config),
    }
    if agent.rewards:
        settings["rewards"] = agent.rewards.describe()
    created = on_first(comm, lambda: Run.create(run, settings))
    _watch(comm, run)
    return RunStart(created, steps, target_score)


def check_target(target_score: float | None, what: str = "the target score") -> None:
    """Raise BadInputError for a target score that a run cannot keep, NaN and infinities too."""
    if target_score is not None and not abs(target_score) < 2**63:
        raise BadInputError(f"{what} must be a number between -2^63 and 2^63, or inf for never, not {target_score}")


def check_seconds(checkpoint_every: float) -> None:
    """Raise BadInputError for seconds between checkpoints that cannot be."""
    number = isinstance(checkpoint_every, numbers.Real) and not isinstance(checkpoint_every, bool)
    if not (number and 0.0 <= checkpoint_every < math.inf):
        raise BadInputError(f"the seconds between checkpoints must be finite, 0 or more, not {checkpoint_every!r}")


def resume_run(
    name: str,
    run: str | Path,
    env: EnvironmentFactory,
    rewards: RewardSettings | None = None,
    steps: int | None = None,
    comm: Communicator | None = None,
) -> RunStart:
    """The agent's run with its newest checkpoint, to go on up to `steps` in all (None: as it was begun).

    With `steps` the run's target score, if it has one, no longer ends it. Raises BadInputError when the run is another
    agent's, and when it has its steps or its target already.
    """

    def open_run() -> RunStart:
        found = find_run(name, run, steps)
        if found.checkpoint is None:
            notify(f"{run} has no checkpoint yet: it begins again")
        elif found.checkpoint.steps >= found.run.config["steps"] and _decays(found.run):
            left = 1.0 - found.checkpoint.steps / found.steps
            notify(
                f"{run} had all its steps: what fell to 0 with them begins again at {left:.0%}, and falls until the end"
            )
        return found

    comm = comm or Serial()
    if comm.size > 1:
        seen = alike.spaces(env.observation_space, env.action_space)
        require_same(comm, alike.facts("resume", name, env, rewards, alike.flags({"steps": steps}) | seen))
    beginning = on_first(comm, open_run)
    _watch(comm, run)
    return beginning


@contextlib.contextmanager
def restoring() -> Iterator[None]:
    """While entered, whatever a checkpoint that does not fit makes a learner raise becomes a BadInputError."""
    try:
        yield
    except BadInputError:
        raise
    except Exception as error:
        raise BadInputError(
            f"the run's newest checkpoint does not fit its settings ({type(error).__name__}: {error}); move it away to "
            "go on from the one before"
        ) from error


def find_run(name: str, run: str | Path, steps: int | None = None) -> RunStart:
    """The start of a run that `resume_run` goes on with; raises what that raises, and writes nothing."""
    opened = Run.open(run)
    settings = opened.config
    if settings.get("agent") != name:
        raise BadInputError(f"{run} is a run of {settings.get('agent') or settings['task']}, not of {name}")
    require_unlocked(opened.path)
    target_score = settings.get("target_score") if steps is None else None
    total = settings["steps"] if steps is None else check_whole("the number of steps", steps)
    require_steps_left(opened, total)
    checkpoint = opened.latest_checkpoint()
    schedule = checkpoint.counters.get("schedule", {}) if checkpoint else {}
    if not isinstance(schedule, dict):
        raise BadInputError(f"the newest checkpoint of {run} is damaged: its schedule is {schedule!r}")
    if steps is None and schedule.get("over") and schedule.get("cooling"):  # and not because its steps were done
        raise BadInputError(f"{run} has reached its target score; give a number of --steps to go on")
    return RunStart(opened, total, target_score, checkpoint)


def require_steps_left(run: Run, total: int) -> None:
    """Raise BadInputError where a run has its steps already, as the names of its checkpoints tell."""
    made, unit = run.latest_steps(), "updates" if run.of_task else "steps"
    if made is not None and made >= total:
        raise BadInputError(f"{run.path} has made {made} {unit}; give a larger --steps to go on")


def _decays(run: Run) -> bool:
    """Tell whether some step size or weight of an agent falls with the steps."""
    return any(value is True for name, value in run.config["config"].items() if name.startswith("decay_"))


def _watch(comm: Communicator, run: str | Path) -> None:
    """Let the ranks watch over each other until the run's loop has ended."""
    heartbeat.begin(comm, f"`{launch_command('resume', run)}` goes on from the last checkpoint")

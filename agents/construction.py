"""The parts of an agent, from the arguments of its constructor.

Here the name of an environment becomes a factory of environments: an agent is handed one, and knows no name.
"""

import dataclasses
import math
import numbers
from pathlib import Path
from typing import Any, NamedTuple

from agents.tuning import Tuned, tuned_by_name
from envs import factory
from rlab.environments import EnvironmentFactory
from rlab.errors import BadInputError
from rlab.rewards import RewardSettings
from rlab.runs.directory import Run
from rlab.runs.environment import env_factory, reward_settings
from rlab.settings import check_whole


class Chosen(NamedTuple):
    """The parts that an agent is made of."""

    config: Any
    env: EnvironmentFactory
    policy: Any  # a backbone's name, a policy, or what makes one
    seed: int
    steps: int | None = None  # tuned for the environment, where that was named
    target_score: float | None = None

    def length(self, steps: int | None, target_score: float | None) -> tuple[int, float | None]:
        """The steps to train, and the score at which to end before: what is tuned, where no steps are given.

        Raises BadInputError where nothing says how many steps.
        """
        if steps is None:
            if self.steps is None:
                raise BadInputError(
                    "train needs a number of steps; only for an environment given by its name is one tuned"
                )
            steps, target_score = self.steps, self.target_score if target_score is None else target_score
        if target_score is not None and not isinstance(target_score, numbers.Real):
            raise BadInputError(f"the target score must be a number, not {target_score!r}")
        return check_whole("the number of steps", steps), None if target_score == math.inf else target_score


def choose(kind: type[Tuned], config: Any, env: Any, policy: Any, seed: int, learned_rewards: bool) -> Chosen:
    """The parts of an agent with settings of this kind, from the arguments of its constructor.

    An environment given by name brings its tuned options, and in the place of None the settings and the backbone that
    are tuned for it. Where rewards are learned each process takes one share of a batch, since it has one model of them.
    Raises BadInputError for what is not of the right kind.
    """
    name = kind.agent.upper()
    if config is not None and not isinstance(config, kind):
        raise BadInputError(
            f"{name} takes an agents.{name}.Config(), and not {_told(config)}; the environment is env=..."
        )
    if env is None:
        raise BadInputError(f'{name} needs an environment, such as env="CartPole-v1"')
    named = isinstance(policy, str) and bool(policy)
    if not (policy is None or named or hasattr(policy, "backbone") or callable(policy)):
        raise BadInputError(
            "policy must be the name of a backbone, a Policy, or a callable that makes one of the spaces, not "
            f"{policy!r}; `python -m launch list` shows the names"
        )
    if not isinstance(seed, numbers.Integral) or isinstance(seed, bool) or not 0 <= seed < 2**64:
        raise BadInputError(f"seed must be a whole number from 0 to 2^64 - 1, not {seed!r}")
    if not isinstance(env, str):
        chosen = Chosen(config or kind(), factory(env), policy, int(seed))
    else:
        found = tuned_by_name(kind.agent, env)
        made, backbone = factory(env, **found["env"]), policy or found["backbone"]
        length = found["steps"], found["target_score"]
        chosen = Chosen(config or kind.for_env(env), made, backbone, int(seed), *length)
    if learned_rewards and hasattr(chosen.config, "shares"):
        return chosen._replace(config=dataclasses.replace(chosen.config, shares=0))
    return chosen


def to_resume(
    run: str | Path, env: Any, rewards: RewardSettings | None
) -> tuple[EnvironmentFactory, RewardSettings | None]:
    """The environments and the learned rewards that a run goes on with: those given, or those that it describes."""
    # What is no run is refused where all ranks meet.
    if env is not None and not (Path(run) / "config.json").exists():
        return factory(env), rewards
    opened = Run.open(run)
    if opened.of_task:
        raise BadInputError(f"{run} is a run of the task {opened.config['task']!r}, and not of an agent")
    made = env_factory(opened.config, opened.path) if env is None else factory(env)
    return made, rewards or reward_settings(opened)


def _told(value: Any) -> str:
    return f"an agents.{value.agent.upper()}.Config()" if isinstance(value, Tuned) else repr(value)

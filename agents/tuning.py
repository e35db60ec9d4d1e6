"""Tuned settings by environment, kept as data in `defaults/<agent>.toml`, and what an agent is made of by them.

The one file of `agents` that knows `envs`: an agent is handed a factory of vector environments, and here is where the
name of an environment becomes one.
"""

import dataclasses
import functools
import math
import numbers
import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from rlab.errors import BadInputError
from rlab.settings import check, check_whole, from_settings

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

_FALLBACKS = ("atari", "default")


@functools.cache
def _table(agent: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("agents") / "defaults" / f"{agent}.toml").read_text(encoding="utf-8"))


def tuned(agent: str, env: str, atari: bool = False) -> dict[str, Any]:
    """The settings tuned for this agent and environment: `steps`, `target_score`, `backbone`, `env`, `config`.

    `env` holds options of the environment, `config` fields of the agent's Config.

    An environment that was not tuned takes those of all tasks; an Atari game (`atari`) those of all games, but for what
    stands under its own name.
    """
    table = _table(agent)
    found = table["atari"] | table.get(env, {}) if atari else table.get(env) or table["default"]
    return {"steps": 0, "target_score": None, "backbone": None, "env": {}, "config": {}} | found


def tuned_names(agent: str) -> list[str]:
    """The environments that have settings of their own."""
    return [name for name in _table(agent) if name not in _FALLBACKS]


def tuned_by_name(agent: str, env: str) -> dict[str, Any]:
    """As `tuned`, by any spelling of the environment's name; raises BadInputError for an unknown one."""
    import envs

    if not isinstance(env, str):
        raise BadInputError(
            f"settings are tuned for names of environments, such as 'CartPole-v1', and not for {env!r}, "
            "which takes the defaults: Config(...)"
        )
    name = envs.resolve(env)
    return tuned(agent, name, envs.is_atari(name))


class Tuned:
    """Gives a Config its tuned values; `agent` names the table."""

    agent: ClassVar[str]

    def __init_subclass__(cls, agent: str = "") -> None:
        if agent:
            cls.agent = agent

    @classmethod
    def for_env(cls, env: str, **changes: Any) -> Self:
        """The settings tuned for the named environment, which the command line has as its defaults, with changes.

        Raises BadInputError for an unknown environment or setting, and for a value out of range.
        """
        config = from_settings(cls, tuned_by_name(cls.agent, env)["config"] | changes)
        check(config)
        return config


class Chosen(NamedTuple):
    """What an agent is made of."""

    config: Any
    env: "Callable[..., VectorEnv]"
    policy: str | None  # a backbone's name
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


def choose(kind: type[Tuned], config: Any, env: Any, policy: str | None, seed: int) -> Chosen:
    """What an agent with settings of this kind is made of, from what its constructor was given.

    An environment given by name brings its tuned options, and in the place of None the settings and the backbone that
    are tuned for it. Raises BadInputError for what is not of the right kind.
    """
    name = kind.agent.upper()
    if config is not None and not isinstance(config, kind):
        raise BadInputError(
            f"{name} takes an agents.{name}.Config(), and not {_told(config)}; the environment is env=..."
        )
    if env is None:
        raise BadInputError(f'{name} needs an environment, such as env="CartPole-v1"')
    if not (policy is None or (isinstance(policy, str) and policy) or hasattr(policy, "backbone")):
        raise BadInputError(
            f"policy must be the name of a backbone, not {policy!r}; `python -m launch list` shows them"
        )
    if not isinstance(seed, numbers.Integral) or isinstance(seed, bool) or not 0 <= seed < 2**64:
        raise BadInputError(f"seed must be a whole number from 0 to 2^64 - 1, not {seed!r}")
    if config is not None:
        check(config)
    if not isinstance(env, str):
        return Chosen(_for_rewards(config or kind(), env), _factory(env), policy, int(seed))
    found = tuned_by_name(kind.agent, env)
    made = _factory(env, **found["env"])
    backbone = policy or found["backbone"]
    return Chosen(config or kind.for_env(env), made, backbone, int(seed), found["steps"], found["target_score"])


def _for_rewards(config: Any, env: Any) -> Any:
    """The settings with a share to each process where rewards are learned: their model is one for all of a process."""
    from rlab.rewards import model_of

    learned = getattr(config, "shares", 0) and model_of(env)
    return dataclasses.replace(config, shares=0) if learned else config


def resume(agent: Any, run: str | Path, env: Any, steps: int | None) -> Any:
    """Go on with a run of the agent's class; what came of it. `env` and `steps` are as of its `resume`."""
    from rlab import runs
    from rlab.parallel import comm

    env = to_resume(run, env)
    beginning = runs.reopen(agent.Config.agent, run, env, steps, comm.world())
    settings = beginning.run.config
    policy = runs.read_architecture(run) or settings["backbone"]
    return agent(from_settings(agent.Config, settings["config"]), env, policy, settings["seed"])._train(beginning)


def to_resume(run: str | Path, env: Any) -> "Callable[..., VectorEnv]":
    """The environments that a run goes on in: those given, or those that it describes, with its learned rewards."""
    from rlab.rewards import model_of
    from rlab.runs.directory import Run
    from rlab.runs.environment import env_factory, rewards_of, with_rewards

    if env is not None:
        found = _factory(env)
        # What is no run is refused where all ranks meet.
        if model_of(found) or not (Path(run) / "config.json").exists():
            return found
    opened = Run.open(run)
    if opened.of_task:
        raise BadInputError(f"{run} is a run of the task {opened.config['task']!r}, and not of an agent")
    if env is None:
        found = env_factory(opened.config, opened.path)
    return with_rewards(found, rewards_of(opened), opened.config["seed"])


def _factory(env: Any, **options: Any) -> "Callable[..., VectorEnv]":
    from envs.factories import factory
    from rlab.rewards import model_of

    return env if model_of(env) else factory(env, **options)


def _told(value: Any) -> str:
    return f"an agents.{value.agent.upper()}.Config()" if isinstance(value, Tuned) else repr(value)

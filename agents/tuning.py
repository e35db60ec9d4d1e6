"""Tuned settings by environment, kept as data in `defaults/<agent>.toml`."""

import functools
import tomllib
from importlib import resources
from typing import Any, ClassVar, Self

from rlab.environments import EnvironmentFactory
from rlab.errors import BadInputError
from rlab.settings import check, from_settings

_FALLBACKS = ("atari", "default")


@functools.cache
def _table(agent: str) -> dict[str, Any]:
    file = resources.files("agents") / "defaults" / f"{agent}.toml"
    if not file.is_file():  # someone else's agent
        return {"atari": {}, "default": {}}
    return tomllib.loads(file.read_text(encoding="utf-8"))


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
    """The tuned settings by any spelling of the environment's name; raises BadInputError for an unknown one."""
    import envs

    if not isinstance(env, str):
        raise BadInputError(
            f"settings are tuned for names of environments, such as 'CartPole-v1', and not for {env!r}, "
            "which takes the defaults: Config(...)"
        )
    name = envs.resolve(env)
    return tuned(agent, name, envs.is_atari(name))


class Tuned:
    """Settings that check themselves when they are made, and are tuned by environment; `agent` names the table."""

    agent: ClassVar[str]

    def __init_subclass__(cls, agent: str = "") -> None:
        if agent:
            cls.agent = agent

    def __post_init__(self) -> None:
        check(self)

    @property
    def restorable(self) -> bool:
        """True if environments must be restorable to a saved state; a factory makes them so where it can."""
        return False

    def require_environment(self, env: EnvironmentFactory) -> None:
        """Raise BadInputError for environments that cannot be learned from with these settings."""

    def of_ranks(self, ranks: int) -> Self:
        """The settings with what they leave open decided for so many ranks; raises BadInputError if they do not fit."""
        return self

    @classmethod
    def for_env(cls, env: str, **changes: Any) -> Self:
        """The settings tuned for the named environment, which the command line has as its defaults, with changes.

        Raises BadInputError for an unknown environment or setting, and for a value out of range.
        """
        return from_settings(cls, tuned_by_name(cls.agent, env)["config"] | changes)

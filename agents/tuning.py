"""Tuned defaults by environment, kept as data in `defaults/<agent>.toml`."""

import functools
import tomllib
from importlib import resources
from typing import Any

_FALLBACKS = ("atari", "default")


@functools.cache
def _table(agent: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("agents") / "defaults" / f"{agent}.toml").read_text(encoding="utf-8"))


def tuned(agent: str, env: str, atari: bool = False) -> dict[str, Any]:
    """The settings tuned for this agent and environment: `steps`, `target_score`, `backbone`, `env`, `config`.

    `env` holds options of the environment, `config` fields of the agent's Config.

    An environment that was not tuned takes those of all Atari games (`atari`) or of all tasks.
    """
    table = _table(agent)
    found = table.get(env) or table["atari" if atari else "default"]
    return {"steps": 0, "target_score": None, "backbone": None, "env": {}, "config": {}} | found


def tuned_names(agent: str) -> list[str]:
    """The environments that have settings of their own."""
    return [name for name in _table(agent) if name not in _FALLBACKS]

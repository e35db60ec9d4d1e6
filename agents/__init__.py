"""The agents: one algorithm, one file. Each loads when it is first used."""

import importlib
from typing import Any

AGENTS = {"a3c": "A3C", "rpg": "RPG", "snes": "SNES", "trpo": "TRPO"}


def __getattr__(name: str) -> Any:
    for module, agent in AGENTS.items():
        if name == agent:
            return getattr(importlib.import_module(f"agents.{module}"), agent)
    raise AttributeError(f"module 'agents' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *AGENTS.values()})

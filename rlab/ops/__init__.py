"""The mathematics: pure functions on tensors. Modules load when first used."""

import importlib
from typing import Any

_MODULES = (
    "adam",
    "bptt",
    "compiling",
    "distributions",
    "evolution",
    "losses",
    "moments",
    "optimizers",
    "returns",
    "sharing",
    "trust_region",
)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"rlab.ops.{name}")
    raise AttributeError(f"module 'rlab.ops' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})

"""A run on disk: its directory, checkpoints and metrics, and the one outer loop that fills it."""

import importlib
from typing import Any

_HOMES = {
    "Beginning": "beginning",
    "begin": "beginning",
    "reopen": "beginning",
    "restoring": "beginning",
    "Checkpoint": "checkpoints",
    "Run": "directory",
    "subset": "checkpoints",
    "Update": "loop",
    "TrainingResult": "loop",
    "run_loop": "loop",
    "stop_requested": "signals",
    "load_policy": "loading",
    "read_architecture": "loading",
    "save_architecture": "loading",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"rlab.runs.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'rlab.runs' has no attribute {name!r}")

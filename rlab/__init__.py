"""rlab: a reinforcement-learning research toolkit.

Submodules load when they are first used, so that importing `rlab` costs nothing and TensorFlow starts only when
tensors are needed: `python -m launch --help` answers at once.
"""

import importlib
import os
from typing import Any

from rlab import quiet

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's greetings; its errors still show
quiet.hush_tensorflow()

__version__ = "0.1.0"

_SUBMODULES = {
    "errors",
    "evaluation",
    "imitation",
    "models",
    "novelty",
    "ops",
    "parallel",
    "policies",
    "rewards",
    "rollout",
    "runs",
    "seeding",
    "types",
    "vine",
}


def __getattr__(name: str) -> Any:
    if name == "load_policy":
        return importlib.import_module("rlab.runs.loading").load_policy
    if name in _SUBMODULES:
        return importlib.import_module(f"rlab.{name}")
    raise AttributeError(f"module 'rlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({"load_policy", "__version__", *_SUBMODULES})

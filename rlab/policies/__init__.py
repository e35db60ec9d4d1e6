"""Models given the meaning that reinforcement learning needs. Names load when first used."""

import importlib
from typing import Any

_HOMES = {
    "Architecture": "policy",
    "ActorCriticPair": "pair",
    "BACKBONES": "names",
    "Batch": "trust",
    "TrustRegion": "trust",
    "as_rows": "trust",
    "compile_population": "populations",
    "compile_reference": "populations",
    "compile_trust_step": "trust",
    "deciding": "populations",
    "divide": "populations",
    "fewer_columns": "trust",
    "population_state": "populations",
    "LinearCritic": "pair",
    "LinearFitter": "fitting",
    "NetworkFitter": "fitting",
    "Parts": "pair",
    "ObservationStatistics": "statistics",
    "Policy": "policy",
    "Share": "acting",
    "standardized": "statistics",
    "PolicyOutput": "policy",
    "TrainedPolicy": "trained",
    "build": "policy",
    "compile_acting": "acting",
    "trace_graph": "acting",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"rlab.policies.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'rlab.policies' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

"""The whole state of a vector environment as arrays, where it can be saved: a run that loads it goes on to the bit.

It can be saved of the project's own environments, of gymnasium's classic control, of Atari games made `restorable`, and
of any single environment that brings two methods of its own: `save_state()`, which gives a dictionary of arrays,
and `load_state(arrays)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import (
    AcrobotEnv,
    CartPoleEnv,
    Continuous_MountainCarEnv,
    MountainCarEnv,
    PendulumEnv,
)
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from envs.batched import RowVectorEnv, generator_state, set_generator_state
from envs.copies import Copy

if TYPE_CHECKING:
    from envs.contract import Conformed

SAVABLE = "Atari games, gymnasium's classic control and the project's own environments"
_CLASSIC = (AcrobotEnv, CartPoleEnv, Continuous_MountainCarEnv, MountainCarEnv, PendulumEnv)
_COUNTED = ("episode_returns", "episode_lengths")


def can_save(env: Conformed) -> bool:
    """Tell whether the environment's state can be saved."""
    inside = env.env
    return isinstance(inside, RowVectorEnv) or (
        isinstance(inside, SyncVectorEnv) and all(_single(copy) is not None for copy in inside.envs)
    )


def save(env: Conformed) -> dict[str, np.ndarray] | None:
    """States, generators and episode statistics, after a reset; None where they cannot be saved."""
    if not can_save(env):
        return None
    inside = env.env
    arrays = {f"statistics/{name}": getattr(env, name).copy() for name in _COUNTED}
    if isinstance(inside, RowVectorEnv):
        return arrays | inside.save()
    for i, copy in enumerate(inside.envs):  # type: ignore[attr-defined]
        arrays |= {f"{i:05}/{name}": part for name, part in _save_one(copy).items()}
    return arrays


def load(env: Conformed, arrays: dict[str, np.ndarray]) -> None:
    """Go on, after a reset, from what `save` gave of an environment of the same make."""
    inside = env.env
    for name in _COUNTED:
        getattr(env, name)[:] = arrays[f"statistics/{name}"]
    if isinstance(inside, RowVectorEnv):
        inside.load(arrays)
        return
    rows: list[dict[str, np.ndarray]] = [{} for _ in inside.envs]  # type: ignore[attr-defined]
    for key, part in arrays.items():
        row, _, name = key.partition("/")
        if row.isdecimal():
            rows[int(row)][name] = part
    for i, (copy, own) in enumerate(zip(inside.envs, rows, strict=True)):  # type: ignore[attr-defined]
        _load_one(copy, own)
        copy.steps = int(env.episode_lengths[i])


def _single(env: gym.Env) -> tuple[Any, TimeLimit | None] | None:
    """The environment that holds a copy's state, and its TimeLimit, if any; None where it cannot all be saved."""
    limit = None
    while isinstance(env, gym.Wrapper):
        if isinstance(env, TimeLimit) and limit is None:
            limit = env
        elif not isinstance(env, Copy | OrderEnforcing | PassiveEnvChecker):
            return None
        env = env.env
    known = type(env) in _CLASSIC or all(callable(getattr(env, name, None)) for name in ("save_state", "load_state"))
    return (env, limit) if known else None


def _save_one(env: gym.Env) -> dict[str, np.ndarray]:
    bare, limit = _single(env)  # type: ignore[misc]
    if type(bare) in _CLASSIC:
        found = {"state": np.array(bare.state), "generator": generator_state([bare.np_random])}
    else:
        found = bare.save_state()
    return found | ({"elapsed": np.array(limit._elapsed_steps)} if limit else {})


def _load_one(env: gym.Env, arrays: dict[str, np.ndarray]) -> None:
    bare, limit = _single(env)  # type: ignore[misc]
    if limit:
        limit._elapsed_steps = int(arrays["elapsed"])
    if type(bare) in _CLASSIC:
        bare.state = arrays["state"].copy()
        set_generator_state([bare.np_random], arrays["generator"])
    else:
        bare.load_state(arrays)

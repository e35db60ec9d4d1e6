"""Between what the policy says and what the environment takes; no TensorFlow here."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from rlab.types import State

# (params [D], observations [B, ...], state, resets [B], seed int32 [2])
# -> tensors (actions [B, ...], values [B], state)
ActingStep = Callable[[Any, Any, State, Any, Any], tuple[Any, Any, State]]
# (params of `divide`, observations [G · E, ...], state [G, E, ...], resets [G · E], seeds int32 [G, 2])
# -> tensors (actions [G · E, ...], state)
PopulationStep = Callable[[Any, Any, State, Any, Any], tuple[Any, State]]


def shape_of(space: gym.Space) -> tuple[int, ...]:
    """The shape of an array space; raises TypeError for a space of anything else."""
    if space.shape is None:
        raise TypeError(f"{space} is not a space of arrays")
    return space.shape


def action_dtype(space: gym.Space) -> type[np.generic]:
    """Of the policy's actions."""
    return np.float32 if isinstance(space, gym.spaces.Box) else np.int32


def to_environment(actions: np.ndarray, space: gym.Space) -> np.ndarray:
    """A batch of the policy's actions as the environment takes them: shifted to `start`, or clipped to the bounds."""
    if isinstance(space, gym.spaces.Discrete):
        return actions + int(space.start)
    if isinstance(space, gym.spaces.MultiDiscrete):
        return actions + space.start
    if isinstance(space, gym.spaces.Box):
        return np.clip(actions, space.low, space.high)
    return actions

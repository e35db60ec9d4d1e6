"""The way from a policy's actions to those that an environment takes; no TensorFlow here.

A policy's actions are flat, [B] or [B, A]. Those of a Box are real numbers in units of the policy: from −1 to 1 where
both bounds are finite, the environment's own where one is not. Means, deviations and log-probabilities are of these
numbers, before they are cut off at the bounds: the density is that of the Gaussian's own sample.
"""

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from rlab.errors import BadInputError
from rlab.policies.observations import choices, one_line, require_few
from rlab.types import State

# (params [D], observations [B, ...], state, resets [B], seed int32 [2])
# -> tensors (actions [B, ...], values [B], state)
ActingStep = Callable[[Any, Any, State, Any, Any], tuple[Any, Any, State]]
# (params of `Population.prepare`, observations [G · E, ...], state [G, E, ...], resets [G · E], seeds int32 [G, 2])
# -> tensors (actions [G · E, ...], state)
PopulationStep = Callable[[Any, Any, State, Any, Any], tuple[Any, State]]
# the policy's actions [B, ...] -> the environment's [B, *shape]
ToEnvironment = Callable[[np.ndarray], np.ndarray]


def shape_of(space: gym.Space) -> tuple[int, ...]:
    """The shape of an array space; raises TypeError for a space of anything else."""
    if space.shape is None:
        raise TypeError(f"{space} is not a space of arrays")
    return space.shape


def action_dtype(space: gym.Space) -> type[np.generic]:
    """The dtype of the policy's actions."""
    return np.float32 if isinstance(space, gym.spaces.Box) else np.int32


def action_shape(space: gym.Space) -> tuple[int, ...]:
    """The shape of one of the policy's actions: () for one choice, (A,) for anything else."""
    return () if isinstance(space, gym.spaces.Discrete) else (math.prod(shape_of(space)),)


def head_size(space: gym.Space) -> int:
    """The number of outputs that a distribution over actions needs; raises BadInputError for spaces without one."""
    if isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
        require_few(space, "actions")
        size = sum(choices(space))
    elif isinstance(space, gym.spaces.Box | gym.spaces.MultiBinary):
        size = math.prod(shape_of(space))
    else:
        raise BadInputError(
            f"no policy head gives actions of {one_line(space)}; "
            "Box, Discrete, MultiDiscrete and MultiBinary spaces would fit"
        )
    if not size:
        raise BadInputError(f"no policy head gives actions of {one_line(space)}: they hold no numbers")
    return size


def to_environment(actions: np.ndarray, space: gym.Space, scaled: bool = True) -> np.ndarray:
    """A batch of the policy's actions as the environment takes them, [B, *shape] of the space's dtype.

    Discrete ones are shifted to `start`. Of a Box, [−1, 1] becomes [low, high] where both bounds are finite, and what
    lies beyond is cut off; where one is not finite, a number stays as it is, up to the other. Integers are the nearest.
    Without `scaled` numbers are cut off at the bounds and nothing else, as in version 0.1.
    """
    actions = np.asarray(actions)
    actions = actions.reshape(len(actions), *shape_of(space))
    if isinstance(space, gym.spaces.Box):
        return _within(_scaled(actions, space) if scaled else actions, space)
    start = getattr(space, "start", 0)
    return (actions + np.asarray(start)).astype(space.dtype)


def _scaled(actions: np.ndarray, space: gym.spaces.Box) -> np.ndarray:
    """Actions in the environment's units, float64; halves are added, so that no sum of bounds overflows."""
    bounded = space.bounded_below & space.bounded_above
    low, high = (np.where(bounded, bound, 0.0).astype(np.float64) / 2.0 for bound in (space.low, space.high))
    mapped = (low + high) + (high - low) * np.clip(actions, -1.0, 1.0).astype(np.float64)
    # Rounding must not keep the ends from the bounds themselves.
    mapped = np.where(actions <= -1.0, space.low, np.where(actions >= 1.0, space.high, mapped))
    return np.where(bounded, mapped, actions)


def _within(actions: np.ndarray, space: gym.spaces.Box) -> np.ndarray:
    """Real numbers [B, *shape] cut off at the bounds, in the space's dtype; rounded where that is of integers."""
    if np.issubdtype(np.dtype(space.dtype), np.floating):
        return np.clip(actions.astype(space.dtype), space.low, space.high)
    rounded = np.rint(actions)
    above, below = rounded >= space.high, rounded <= space.low
    inside = np.where(above | below, 0.0, rounded).astype(space.dtype)
    return np.where(above, space.high, np.where(below, space.low, inside))

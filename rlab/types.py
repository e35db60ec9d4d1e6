"""Data that crosses module borders."""

from typing import Any, NamedTuple

# A nested tuple of arrays [B, ...]: the memory of a recurrent policy; () for a feed-forward one.
State = Any


class Trajectory(NamedTuple):
    """T steps of B parallel environments, time-major. Arrays are NumPy or tensors.

    `boundaries` and `discounts` are kept apart: a time limit ends an episode (boundary 1) without making what follows
    worthless (its discount stays γ and its `next_values` is the value of the observation *before* the reset).
    """

    observations: Any  # [T, B, ...] x_t, as the environment gave them
    resets: Any  # [T, B] float32, 1 where x_t is the first observation of an episode: memory is cleared there
    actions: Any  # [T, B, ...] a_t
    rewards: Any  # [T, B] float32, r_t
    discounts: Any  # [T, B] float32, γ, but 0 where the episode terminated at step t
    boundaries: Any  # [T, B] float32, 1 where the episode ended (terminated or truncated) at step t
    values: Any  # [T, B] float32, V(x_t) under the acting parameters
    next_values: Any  # [T, B] float32, V(x_{t+1}) before any reset
    state: State  # the policy's memory before x_0


class Branches(NamedTuple):
    """The outcomes of several actions from each of N states of a trajectory, all else being equal (TRPO's vine)."""

    steps: Any  # int32 [N], which of the T·B steps, time-major, the states are
    actions: Any  # [K, N, ...]
    values: Any  # float32 [K, N], of the action there, estimated
    sampled: Any  # float32 scalar: 1 where the policy drew the actions, 0 where they are all that there are


class EpisodeBatch(NamedTuple):
    """B whole episodes, each from a fresh reset at t = 0, time-major; what follows an episode's end is padding.

    T is a multiple of C, the length of the chunks in which a gradient walks back over time.
    """

    observations: Any  # [T, B, ...] x_t
    resets: Any  # [T, B] float32, 1 at t = 0 only
    actions: Any  # [T, B, ...] a_t
    rewards: Any  # [T, B] float32, r_t; 0 in padding
    valid: Any  # [T, B] float32, 0 in padding
    states: list[State]  # the policy's memory before the steps 0, C, 2C, ...: T/C of them


class Episode(NamedTuple):
    """The report of one finished episode."""

    score: float  # undiscounted sum of the environment's own rewards, before any clipping
    length: int  # agent steps
    success: float | None = None  # 1.0 or 0.0 where the environment reports `is_success`, else None

"""A batch of steps for an update, the policy's distributions over it, and the states of its Fisher-vector products."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rlab.ops.distributions import Distribution
from rlab.policies.acting import Share
from rlab.policies.policy import Policy
from rlab.types import Branches


class Batch(NamedTuple):
    """The steps of one rank: T' × R, time-major; without memory all steps are one row of time, [1, T·B]."""

    observations: Any  # [T', R, ...]
    resets: Any  # [T', R]
    actions: Any  # [T', R, ...]
    advantages: Any  # [T', R], standardized
    state: Any  # the actor's memory before the first of them
    branches: Branches | None = None  # of the vine: the surrogate is then of these
    fewer: Any = None  # int32 [M], the columns whose states Fisher products take; None for all


def distribution_of(policy: Policy, params: tf.Tensor, batch: Batch) -> Distribution:
    """π at every step of a batch."""
    actions = batch.actions if policy.observe_actions else None
    return policy.apply(params, batch.observations, batch.state, batch.resets, actions)[0].distribution


def log_probabilities(distribution: Distribution, batch: Batch) -> tf.Tensor:
    """ln π of the actions in the surrogate: [T', R] of a path, [K, N] of a vine."""
    if batch.branches is None:
        return distribution.log_prob(batch.actions)
    chosen = [
        tf.gather(tf.reshape(part, (-1, *part.shape[2:])), batch.branches.steps)
        for part in tf.nest.flatten(distribution)
    ]
    return tf.nest.pack_sequence_as(distribution, chosen).log_prob(batch.branches.actions)


def as_rows(batch: Batch) -> Batch:
    """A batch [T, B] whose policy has no memory as one of [1, T·B]: no loop over time is needed."""
    if tf.nest.flatten(batch.state):
        return batch
    return batch._replace(**{name: part.reshape(1, -1, *part.shape[2:]) for name, part in _steps(batch).items()})


def subsampled(batch: Batch) -> Batch:
    """The columns of a batch that Fisher-vector products take; with memory each is an environment's."""
    if batch.fewer is None:
        return batch
    state = tf.nest.map_structure(lambda part: tf.gather(part, batch.fewer), batch.state)
    return batch._replace(
        state=state, **{name: tf.gather(part, batch.fewer, axis=1) for name, part in _steps(batch).items()}
    )


def columns(
    shape: tuple[int, ...], number: int, seed: int, turn: int, whole: bool, share: Share | None = None
) -> np.ndarray | None:
    """The columns of a batch [T, B] that are taken in the `turn`-th update, one in `number`; None for all.

    `whole` takes whole environments, as a memory needs; else single steps, drawn by `seed`. A `share` is a rank's of a
    batch of all ranks.
    """
    if number == 1:
        return None
    if whole:
        return turning_rows(shape[1], number, turn)
    first, total = share or (0, shape[1])
    return drawn_steps(shape[0], shape[1], number, seed, first, total)


def drawn_steps(time: int, rows: int, number: int, seed: int, first: int, total: int) -> np.ndarray:
    """Indices int32 [M] of one in `number` of the T·B steps, time-major, as many of each environment, drawn by `seed`.

    Every step is as likely as any other, so their mean Fisher information is without bias that of all. A rank that has
    the environments from `first` on, of `total`, draws those of its own that one process would draw.
    """
    keys = np.random.default_rng(seed).random((total, time))[first : first + rows]
    times = np.argsort(keys, axis=1)[:, : -(-time // number)]
    return np.sort(times * rows + np.arange(rows)[:, None], axis=None).astype(np.int32)


def turning_rows(rows: int, number: int, turn: int) -> np.ndarray:
    """Indices int32 [⌈B/n⌉] of every n-th environment, counted from the `turn`-th: in B turns each comes as often."""
    return np.sort((turn + number * np.arange(-(-rows // number))) % rows).astype(np.int32)


def _steps(batch: Batch) -> dict[str, Any]:
    """The arrays [T', R, ...] of a batch, by name."""
    return {name: part for name, part in batch._asdict().items() if name not in ("state", "branches", "fewer")}

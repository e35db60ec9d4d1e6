"""Statistics over all ranks: of a batch, and of the observations that a normalizing policy has seen."""

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from rlab.ops import moments
from rlab.parallel.comm import Communicator
from rlab.policies.policy import Policy
from rlab.state import unpack

_DECAY = 0.9  # of the moments of returns, per batch


def moments_of_ranks(rows: np.ndarray, comm: Communicator) -> moments.Moments:
    """The moments of the rows [N, F] of all ranks, the same bits on each."""
    return functools.reduce(moments.merge, comm.gather(moments.of_rows(rows)))


def standardized(values: np.ndarray, comm: Communicator) -> np.ndarray:
    """Values of any shape, shifted and scaled to mean 0 and deviation 1 over all ranks, float32."""
    whole = moments_of_ranks(values.reshape(-1, 1), comm)
    return ((values - float(whole.mean[0])) / (float(whole.deviation[0]) + 1e-8)).astype(np.float32)


class ObservationNormalizer:
    """Mean and deviation of all observations so far, the same on all ranks, for normalizing policies.

    The moments are kept in double precision apart from any parameters, and merged without loss. For a `policy` that
    does not normalize nothing is counted and nothing told.
    """

    def __init__(self, policy: Policy) -> None:
        self._features = policy.normalized_features
        self._seen = moments.empty(self._features)

    def add(self, observations: np.ndarray, comm: Communicator) -> None:
        """Count observations [N, ...], and those of the other ranks."""
        if self._features:
            rows = observations.reshape(-1, self._features)
            self.merge(*comm.gather(moments.of_rows(rows)))

    def merge(self, *seen: moments.Moments) -> None:
        """Add moments of observations that others have seen, in this order."""
        self._seen = functools.reduce(moments.merge, seen, self._seen)

    def write_to(self, policy: Policy, params: tf.Tensor) -> tf.Tensor:
        """The parameters [D] of a policy of these observations, with the statistics set in them."""
        if not self._features:
            return params
        return tf.constant(policy.with_statistics(np.asarray(params), self._seen.mean, self._seen.deviation))

    def state(self) -> dict[str, moments.Moments]:
        """The state for a checkpoint."""
        return {"statistics": self._seen} if self._features else {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `state` gave, as `rlab.state.pack` names it."""
        self._seen = unpack(self.state(), arrays).get("statistics", self._seen)


class ReturnMoments:
    """Mean and deviation of the returns of past batches, the recent ones more; the same on all ranks."""

    def __init__(self) -> None:
        self._sums = np.zeros(3)  # weights, returns, squared returns

    def add(self, valid: np.ndarray, returns: np.ndarray, comm: Communicator) -> None:
        """Count the returns [T, B] where `valid` is not 0."""
        counted = returns[valid != 0.0].astype(np.float64)
        sums = comm.sum(np.array([counted.size, counted.sum(), np.square(counted).sum()]))
        self._sums = _DECAY * self._sums + (1.0 - _DECAY) * sums

    @property
    def mean(self) -> float:
        """The mean of the returns; 0 before the first batch."""
        return float(self._sums[1] / self._sums[0]) if self._sums[0] else 0.0

    @property
    def deviation(self) -> float:
        """The standard deviation of the returns, never 0; 1 before the first batch."""
        if not self._sums[0]:
            return 1.0
        return float(np.sqrt(max(self._sums[2] / self._sums[0] - self.mean**2, 0.0))) + 1e-6

    def state(self) -> dict[str, Any]:
        return {"moments": self._sums}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        self._sums = unpack(self.state(), arrays)["moments"]

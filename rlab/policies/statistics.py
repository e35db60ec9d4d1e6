"""Statistics over all ranks: of a batch, and of what a normalizing policy has seen of its observations."""

import functools

import numpy as np
import tensorflow as tf

from rlab.ops import moments
from rlab.parallel.comm import Communicator
from rlab.policies.policy import Policy


def standardized(values: np.ndarray, comm: Communicator) -> np.ndarray:
    """Values of any shape, shifted and scaled to mean 0 and deviation 1 over all ranks, float32."""
    parts = comm.gather(moments.of_rows(values.reshape(-1, 1)))
    whole = functools.reduce(moments.merge, parts)
    return ((values - float(whole.mean[0])) / (float(whole.deviation[0]) + 1e-8)).astype(np.float32)


class ObservationStatistics:
    """Mean and deviation of all observations so far, the same on all ranks, for normalizing policies.

    The moments are kept in double precision apart from any parameters, and merged without loss. For a `policy` that
    does not normalize nothing is counted and nothing told.
    """

    def __init__(self, policy: Policy) -> None:
        self._features = policy.normalized
        self._seen = moments.empty(self._features)

    def add(self, observations: np.ndarray, comm: Communicator) -> None:
        """Count observations [N, ...], and those of the other ranks."""
        if self._features:
            rows = observations.reshape(-1, self._features)
            self.merge(*comm.gather(moments.of_rows(rows)))

    def merge(self, *seen: moments.Moments) -> None:
        """Count what others have seen, in this order."""
        self._seen = functools.reduce(moments.merge, seen, self._seen)

    def tell(self, policy: Policy, params: tf.Tensor) -> tf.Tensor:
        """The parameters [D] of a policy of these observations, which now knows of them."""
        if not self._features:
            return params
        return tf.constant(policy.with_statistics(np.asarray(params), self._seen.mean, self._seen.deviation))

    def arrays(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps, beside other arrays."""
        return {f"statistics/{name}": part for name, part in self._seen._asdict().items()} if self._features else {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `arrays` gave."""
        if self._features:
            self._seen = moments.restored(self._seen, arrays, "statistics/")

"""What a normalizing policy has seen of its observations, shared by all ranks."""

import functools

import numpy as np

from rlab.ops import moments
from rlab.parallel.comm import Communicator
from rlab.policies.policy import Policy


class ObservationStatistics:
    """Mean and deviation of all observations so far, the same on all ranks, as parameters of `policy`.

    The moments are kept in double precision apart from the parameters, and merged without loss. A policy that does not
    normalize is left as it is.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._seen = moments.empty(policy.normalized)

    def add(self, params: np.ndarray, observations: np.ndarray, valid: np.ndarray, comm: Communicator) -> np.ndarray:
        """Count observations [T, B, ...] where `valid` [T, B] is not 0; the parameters [D] that know of them."""
        if not self._policy.normalized:
            return params
        rows = observations[valid != 0.0].reshape(-1, self._policy.normalized)
        self._seen = functools.reduce(moments.merge, comm.gather(moments.of_rows(rows)), self._seen)
        return self._policy.with_statistics(params, self._seen.mean, self._seen.deviation)

    def arrays(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps, beside other arrays."""
        if not self._policy.normalized:
            return {}
        return {f"statistics/{name}": part for name, part in self._seen._asdict().items()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `arrays` gave."""
        if self._policy.normalized:
            self._seen = moments.Moments(*(arrays[f"statistics/{name}"] for name in moments.Moments._fields))

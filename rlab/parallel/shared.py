"""Parameters that several threads share without a lock (Recht et al. 2011, "Hogwild!"; Mnih et al. 2016, section 4)."""

import threading

import numpy as np

from rlab.ops.optimizers import rmsprop_update


class SharedParameters:
    """One float32 vector [D], its RMSProp statistics and the counts of work done, for all workers at once.

    Parameters are read and written without a lock: a `pull` that runs during another worker's `push` may see part of
    that update, and so does the paper's. The counters are exact.
    """

    def __init__(
        self,
        vector: np.ndarray,
        mean_square: np.ndarray | None = None,
        *,
        decay: float,
        epsilon: float,
        steps: int = 0,
        updates: int = 0,
    ) -> None:
        self.vector = vector.astype(np.float32)
        self.mean_square = np.zeros_like(self.vector) if mean_square is None else mean_square.astype(np.float32)
        self.steps, self.updates = steps, updates
        self._decay, self._epsilon = decay, epsilon
        self._counting = threading.Lock()

    def pull(self) -> tuple[np.ndarray, int]:
        """A snapshot [D], and the number of updates made before it."""
        updates = self.updates
        return self.vector.copy(), updates

    def push(self, gradient: np.ndarray, learning_rate: float, pulled_at: int) -> int:
        """Apply a gradient [D]; returns its staleness: the updates that others made since this worker's pull."""
        rmsprop_update(self.vector, self.mean_square, gradient, learning_rate, self._decay, self._epsilon)
        with self._counting:
            staleness = self.updates - pulled_at
            self.updates += 1
        return staleness

    def count_steps(self, steps: int) -> int:
        """Add agent steps to the count; returns the sum over all workers."""
        with self._counting:
            self.steps += steps
            return self.steps

"""Minibatches of a fixed data set: every sample once an epoch, in an order that the seed and the epoch fix."""

import numpy as np

from rlab.errors import BadInputError
from rlab.seeding import derive


class Shuffled:
    """The samples of each update, by its number alone. Raises BadInputError for batches larger than the data."""

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        if batch_size > count:
            raise BadInputError(f"--batch-size must be at most the {count} training samples, not {batch_size}")
        self.updates_per_epoch = count // batch_size
        self._count, self._size, self._seed = count, batch_size, seed
        self._order: tuple[int, np.ndarray] | None = None

    def rows(self, update: int) -> np.ndarray:
        """The samples of an update, int64 [batch_size]."""
        epoch, position = divmod(update, self.updates_per_epoch)
        if self._order is None or self._order[0] != epoch:
            generator = np.random.default_rng(derive(self._seed, "order", epoch))
            self._order = epoch, generator.permutation(self._count)
        return self._order[1][position * self._size : (position + 1) * self._size]

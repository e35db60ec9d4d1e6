"""The pixels that the tasks of generative models learn from."""

import numpy as np

from rlab.datasets.images import ImageSplits, binarize, load_images
from rlab.seeding import derive
from rlab.tasks.batches import Shuffled

_FIXED = {"train": 1, "validation": 2, "test": 3}  # seeds of the fixed binarization, the same for every run


class Pixels:
    """Images to learn from, cut in batches; binarized, where that is asked for.

    `fixed` draws each pixel once, as 1 with the probability that is its brightness, from seeds that never change. With
    `fresh` the training images are drawn anew for every update, and those to validate and test stay fixed, so that its
    figures and those of `fixed` compare. `none` leaves the brightness.
    """

    def __init__(self, data: str, binarization: str, batch_size: int, seed: int) -> None:
        self.splits: ImageSplits = load_images(data)
        self.shape: tuple[int, int] = self.splits.train.images.shape[1:]
        self._fresh, self._seed = binarization == "fresh", seed
        self.images = {name: getattr(self.splits, name).images for name in _FIXED}
        for name, fixed in _FIXED.items():
            if binarization != "none" and not (self._fresh and name == "train"):
                self.images[name] = binarize(self.images[name], fixed)
        self.batches = Shuffled(len(self.images["train"]), batch_size, seed)

    def batch(self, update: int) -> np.ndarray:
        """Images of one update, float32 [batch_size, H, W]."""
        images = self.images["train"][self.batches.rows(update)]
        return binarize(images, derive(self._seed, "binarization", update)) if self._fresh else images

"""PixelRNN and PixelCNN on images: the exact likelihood, samples, and images completed from their upper half."""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from rlab.errors import BadInputError
from rlab.models.initializers import seed_stream
from rlab.models.pixelrnn import PixelRNN
from rlab.seeding import derive
from rlab.settings import check
from rlab.tasks import image_grids
from rlab.tasks.configs import PixelRNNConfig, with_absolute_data
from rlab.tasks.pixels import Pixels
from rlab.tasks.training import Apply, TaskReport

_CHUNK = 100  # images evaluated, or drawn, at once


class PixelRNNTask:
    """Learns p(x) = Π p(x_j | x_{<j}) of images."""

    name = "pixelrnn"
    Config = PixelRNNConfig
    shown = ("loss", "validation_nll")
    xla = True

    def __init__(self, config: PixelRNNConfig, seed: int = 0) -> None:
        check(config)
        if config.levels > 2 and config.binarization != "none":
            raise BadInputError(f"--levels {config.levels} needs --binarization none")
        if config.levels == 2 and config.binarization == "none":
            raise BadInputError("--binarization none needs --levels above 2, such as 256")
        self.config, self.seed = with_absolute_data(config), seed
        self.pixels = Pixels(self.config.data, config.binarization, config.batch_size, seed)
        self.data_sha256 = self.pixels.splits.sha256
        self.updates_per_epoch = self.pixels.batches.updates_per_epoch
        # Two threads inside an operation bring a tenth where LSTMs walk, two halves of a batch side by side 1.7 times.
        self.parts = 2 if config.batch_size % 2 == 0 else 1
        seeds = seed_stream(derive(seed, "parameters"))
        self.model = PixelRNN(config.model, config.units, config.depth, config.levels, seeds)
        self.model.build()

    def batch(self, update: int) -> Any:
        return self._levels(self.pixels.batch(update))

    def _levels(self, images: np.ndarray) -> np.ndarray:
        """Images [N, H, W] in as many levels of brightness as the model knows."""
        most = self.config.levels - 1
        return np.rint(images * most) / np.float32(most)

    def loss(self, batch: Any) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        return -tf.reduce_mean(self.model.log_prob(batch)), {}

    def evaluate(self, apply: Apply, split: str) -> dict[str, float]:
        """Nats an image, and bits a pixel."""
        images = self._levels(self.pixels.images[split])
        padded = np.concatenate([images, np.zeros((-len(images) % _CHUNK, *self.pixels.shape), np.float32)])
        parts = [apply(self.model.log_prob, padded[i : i + _CHUNK]) for i in range(0, len(padded), _CHUNK)]
        nll = -float(np.concatenate(parts)[: len(images)].astype(np.float64).mean())
        return {"nll": nll, "bits_per_pixel": nll / (images[0].size * math.log(2.0))}

    def sample(self, apply: Apply, count: int, seed: int) -> np.ndarray:
        return self._completed(apply, np.zeros((count, *self.pixels.shape), np.float32), 0, seed)

    def _completed(self, apply: Apply, images: np.ndarray, rows: int, seed: int) -> np.ndarray:
        """Images [N, H, W] of which the first rows are kept and the others drawn."""
        known = np.zeros(self.pixels.shape, np.float32)
        known[:rows] = 1.0
        count = len(images)
        images = np.concatenate([images, np.zeros((-count % _CHUNK, *self.pixels.shape), np.float32)])
        parts = []
        for start in range(0, len(images), _CHUNK):
            numbers = np.array([derive(seed, "samples"), start], np.int32)
            parts.append(apply(self.model.complete, images[start : start + _CHUNK], known, numbers))
        return np.concatenate(parts)[:count]

    def pictures(self, apply: Apply) -> dict[str, Any]:
        return {"samples": image_grids.grid(self.sample(apply, 64, self.seed))}

    def report(self, apply: Apply) -> TaskReport:
        half = self.pixels.shape[0] // 2
        given = self._levels(self.pixels.images["test"][:8])
        drawn = self._completed(apply, np.repeat(given, 8, 0), half, self.seed).reshape(-1, 8, *self.pixels.shape)
        shown = given.copy()
        shown[:, half:] = 0.5
        rows = np.concatenate([shown[:, None], drawn, given[:, None]], 1)
        figures = {
            "samples": image_grids.grid(self.sample(apply, 64, self.seed)),
            "completions": image_grids.grid(rows.reshape(-1, *self.pixels.shape), columns=10),
        }
        images = self._levels(self.pixels.images["test"][:_CHUNK])
        each = apply(self.model.pixel_log_probs, images)
        lines = ["rows of pixels   nats of them, a test image"]
        for part in np.array_split(np.arange(self.pixels.shape[0]), min(4, self.pixels.shape[0])):
            lines.append(f"{part[0]:6d} to {part[-1]:3d}   {-each[:, part].sum((1, 2)).mean():8.2f}")
        lines.append("completions.png: the upper half that was given, eight completions, the image itself")
        return TaskReport("\n".join(lines), figures)

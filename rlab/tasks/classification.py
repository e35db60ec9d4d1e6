"""Classification of images: MNIST and its like, by networks of every feed-forward kind."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rlab.datasets.images import LabelledImages, load_images
from rlab.errors import BadInputError
from rlab.models.cnn import CNN, DIGIT_CONVOLUTIONS
from rlab.models.initializers import INITIALIZERS, seed_stream
from rlab.models.mlp import MLP, Classifier
from rlab.models.residual import DeepCNN, DeepMLP
from rlab.seeding import derive
from rlab.settings import check
from rlab.tasks import figures
from rlab.tasks.batches import Shuffled
from rlab.tasks.configs import ImageConfig, with_absolute_data
from rlab.tasks.training import Apply, TaskReport

_CHUNK = 500  # images evaluated at once


class ImageTask:
    """Learns p(class | image)."""

    name = "mnist"
    Config = ImageConfig
    shown = ("loss", "accuracy", "validation_accuracy")

    def __init__(self, config: ImageConfig, seed: int = 0) -> None:
        check(config)
        config = with_absolute_data(config)
        self.config, self.seed = config, seed
        self.splits = load_images(config.data)
        self.data_sha256 = self.splits.sha256
        if self.splits.classes < 2:
            raise BadInputError(f"--data {config.data}: images of one class leave nothing to classify")
        images = self.splits.train.images
        if config.shift >= min(images.shape[1:]):
            raise BadInputError(f"--shift must be less than the {min(images.shape[1:])} pixels, not {config.shift}")
        self._batches = Shuffled(len(images), config.batch_size, seed)
        self.updates_per_epoch = self._batches.updates_per_epoch
        self.xla = not config.convolutional
        seeds = seed_stream(derive(seed, "parameters"))
        try:
            self.model = Classifier(_torso(config, seeds), self.splits.classes, seeds)
            height, width = images.shape[1:]
            self.model.build((None, height, width, 1) if config.convolutional else (None, height * width))
        except ValueError as error:
            raise BadInputError(f"--model {config.model} does not fit --data {config.data}: {error}") from error

    def batch(self, update: int) -> Any:
        rows = self._batches.rows(update)
        images = self.splits.train.images[rows]
        if self.config.shift:
            images = shifted(images, self.config.shift, np.random.default_rng(derive(self.seed, "shift", update)))
        return self._shaped(images), self.splits.train.labels[rows]

    def _shaped(self, images: np.ndarray) -> np.ndarray:
        return images[..., None] if self.config.convolutional else images.reshape(len(images), -1)

    def loss(self, batch: Any) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        images, labels = batch
        logits = self.model(images)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        right = tf.argmax(logits, -1, tf.int32) == labels
        return loss, {"accuracy": tf.reduce_mean(tf.cast(right, tf.float32))}

    def predict(self, apply: Apply, images: np.ndarray) -> np.ndarray:
        """The probability of each class, float32 [N, classes], of images [N, H, W]."""
        padded = np.concatenate([images, np.zeros((-len(images) % _CHUNK, *images.shape[1:]), images.dtype)])
        parts = [
            apply(self.model.probabilities, self._shaped(padded[i : i + _CHUNK])) for i in range(0, len(padded), _CHUNK)
        ]
        return np.concatenate(parts)[: len(images)]

    def evaluate(self, apply: Apply, split: str) -> dict[str, float]:
        data: LabelledImages = getattr(self.splits, split)
        probabilities = self.predict(apply, data.images)
        chosen = probabilities[np.arange(len(data.labels)), data.labels]
        return {
            "accuracy": float(np.mean(probabilities.argmax(-1) == data.labels)),
            "nll": float(-np.mean(np.log(np.maximum(chosen, 1e-30)))),
        }

    def report(self, apply: Apply) -> TaskReport:
        test = self.splits.test
        said = self.predict(apply, test.images).argmax(-1)
        lines = ["test images   label  prediction"]
        lines += [f"{i:11d}   {test.labels[i]:5d}  {said[i]:10d}" for i in range(min(8, len(said)))]
        drawn = {"confusion": figures.confusion(test.labels, said, self.splits.classes)}
        kernel = np.asarray(apply(self._first_kernel))
        height, width = test.images.shape[1:]
        drawn["filters"] = figures.filters(kernel if kernel.ndim == 4 else kernel.reshape(height, width, -1))
        return TaskReport("\n".join(lines), drawn)

    def _first_kernel(self) -> tf.Tensor:
        torso = self.model.torso
        first = (torso.convolutions if isinstance(torso, CNN) else torso.layers)[0]
        return tf.convert_to_tensor(first.kernel)


def shifted(images: np.ndarray, most: int, generator: np.random.Generator) -> np.ndarray:
    """Each image [N, H, W] moved by up to `most` pixels down or up and right or left, zeros moved in."""
    n, height, width = images.shape
    padded = np.pad(images, ((0, 0), (most, most), (most, most)))
    down, right = generator.integers(0, 2 * most + 1, (2, n, 1))
    rows, columns = down + np.arange(height), right + np.arange(width)
    return padded[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None]]


def _torso(config: ImageConfig, seeds: Iterator[int]) -> keras.layers.Layer:
    if config.model == "mlp":
        return MLP((config.units,) * config.depth, "relu", seeds, INITIALIZERS[config.initializer])
    if config.model == "cnn":
        return CNN(DIGIT_CONVOLUTIONS, config.units, seeds)
    kind = config.model.removesuffix("-cnn")
    return (DeepCNN if config.model.endswith("-cnn") else DeepMLP)(kind, config.units, config.depth, "relu", seeds)

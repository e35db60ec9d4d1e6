"""The encoder of a variational autoencoder as a backbone: `vae:RUN` as it is, `vae-tuned:RUN` learned further."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rlab.errors import BadInputError
from rlab.models.initializers import RECTIFIER_GAIN, orthogonal
from rlab.models.vae import make_encoder

KINDS = ("vae", "vae-tuned")
FROZEN = "/frozen_codes/encoder/"  # in the names of parameters that are kept as they are
_UNITS = 256
SIZES = ("model", "latents", "units", "depth")


def is_encoder(name: str) -> bool:
    """Tell whether a backbone's name is that of an encoder from a run."""
    return name.partition(":")[0] in KINDS and ":" in name


def with_absolute_run(name: str) -> str:
    """The name with the whole path of its run, so that it is understood from any directory."""
    kind, _, run = name.partition(":")
    return f"{kind}:{Path(run).resolve()}"


class Encoder(NamedTuple):
    """The sizes of the run's encoder, for `make_encoder`; raises BadInputError where it is no run of a VAE."""

    sizes: dict[str, Any]  # of SIZES
    weights: dict[str, np.ndarray] | None = None  # by name, float32; None where they are among a policy's parameters


class Codes(keras.layers.Layer):
    """m(x) of each channel of an image, side by side, and a rectified layer of 256 units.

    Maps images [N, H, W, C] between 0 and 1 to features [N, 256]. Frozen, no gradient reaches the encoder.

    Args:
        name_of_run: the backbone's name.
        shape: (H, W).
        encoder: with weights, or without where these come from elsewhere.
        seeds: one seed to each initializer.
    """

    of_pixels = True  # it wants the brightness itself

    def __init__(self, name_of_run: str, shape: tuple[int, int], encoder: Encoder, seeds: Iterator[int]) -> None:
        self._frozen = not name_of_run.startswith("vae-tuned:")
        super().__init__(name="frozen_codes" if self._frozen else "codes")
        self._run, self._shape, self._weights = name_of_run, shape, encoder.weights
        model, latents, units, depth = (encoder.sizes[key] for key in SIZES)
        self.encoder = make_encoder(model, shape, latents, units, depth, seeds)
        self._latents = latents
        self.dense = keras.layers.Dense(
            _UNITS, "relu", kernel_initializer=orthogonal(RECTIFIER_GAIN, seeds), name="dense"
        )
        self.units = _UNITS

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.encoder.build()
        self.dense.build((None, input_shape[-1] * self._latents))
        self.built = True
        if self._weights is None:
            return
        height, width = self._shape
        for variable in self.encoder.trainable_variables:
            name = variable.path.split("/encoder/")[-1]
            found = self._weights.get(name)
            if found is None or found.shape != tuple(variable.shape):
                raise BadInputError(
                    f"backbone {self._run!r} does not fit images of {height}×{width}: {name!r} has shape "
                    f"{None if found is None else found.shape}, not {tuple(variable.shape)}"
                )
            variable.assign(found)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        _, height, width, channels = images.shape
        apart = tf.reshape(tf.transpose(images, (0, 3, 1, 2)), (-1, height, width))
        codes = tf.reshape(self.encoder(apart)[0], (-1, channels * self._latents))
        return self.dense(tf.stop_gradient(codes) if self._frozen else codes)

"""Backbones: observations to features, [T, B, ...] to [T, B, H], feed-forward or with memory."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from rlab.errors import BadInputError, nearest
from rlab.models.cnn import A3C_CONVOLUTIONS, CNN, NATURE_CONVOLUTIONS, ConvSpec
from rlab.models.dnc import DNC
from rlab.models.mlp import MLP
from rlab.models.recurrent import LSTM, RNN, RecurrentLayer
from rlab.models.residual import DeepMLP
from rlab.models.window import WindowEncoder
from rlab.policies.actions import shape_of
from rlab.policies.encoders import Codes, is_encoder, read_sizes
from rlab.policies.names import BACKBONES
from rlab.types import State

Memory = RecurrentLayer | WindowEncoder

SMALL_CONVOLUTIONS = (ConvSpec(16, 4, 2), ConvSpec(32, 4, 2), ConvSpec(32, 3, 2))


class Backbone(keras.layers.Layer):
    """A feed-forward torso, layer upon layer, with a memory over it or without.

    With `extra` > 0 it is also given so many numbers a step that are no observation, such as the previous action: they
    join a vector before the torso, and what the torso makes of an image after it. With `normalize` a vector is shifted
    and scaled by `observation_mean` and `observation_deviation` and clipped to ±10 of them; these are parameters like
    all others but that no gradient reaches them. Vectors are multiplied by `scale` at last.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        torso: Sequence[keras.layers.Layer],
        memory: Memory | None = None,
        extra: int = 0,
        normalize: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__(name="backbone")
        vector = isinstance(observation_space, gym.spaces.Box) and not is_image(observation_space)
        if not vector and (normalize or scale != 1.0):
            raise BadInputError(
                f"only vectors can be normalized or scaled, and not observations of {observation_space}"
            )
        self.observation_space, self.extra, self.normalize, self.scale = observation_space, extra, normalize, scale
        self.torso = list(torso)
        self.memory = memory
        self.units = memory.units if memory else torso[-1].units + (extra if is_image(observation_space) else 0)

    def build(self, *_: object) -> None:
        shape: tuple[int, ...] = (1, *_preprocessed_shape(self.observation_space))
        if self.normalize:
            self.mean = self.add_weight(shape=shape[1:], initializer="zeros", name=MEAN)
            self.deviation = self.add_weight(shape=shape[1:], initializer="ones", name=DEVIATION)
        before, after = (0, self.extra) if is_image(self.observation_space) else (self.extra, 0)
        shape = (*shape[:-1], shape[-1] + before)
        for layer in self.torso:
            layer.build(shape)
            shape = (1, layer.units)
        if self.memory:
            self.memory.build((None, None, shape[-1] + after))
        self.built = True

    def initial_state(self, batch_size: int) -> State:
        return self.memory.initial_state(batch_size) if self.memory else ()

    def call(
        self, observations: tf.Tensor, state: State, resets: tf.Tensor, extra: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, State]:
        time, batch = observations.shape[:2]
        features = tf.reshape(observations, (time * batch, *observations.shape[2:]))
        features = _preprocess(features, self.observation_space, getattr(self.torso[0], "of_pixels", False))
        image = is_image(self.observation_space)
        if self.normalize:
            mean, deviation = (tf.stop_gradient(tf.convert_to_tensor(part)) for part in (self.mean, self.deviation))
            features = tf.clip_by_value((features - mean) / deviation, -_BOUND, _BOUND)
        if self.scale != 1.0:
            features *= self.scale
        if extra is not None and not image:
            features = tf.concat([features, tf.reshape(extra, (time * batch, self.extra))], -1)
        for layer in self.torso:
            features = layer(features)
        features = tf.reshape(features, (time, batch, features.shape[-1]))
        if extra is not None and image:
            features = tf.concat([features, extra], -1)
        if self.memory is None:
            return features, ()
        return self.memory(features, state, resets)

    def measure(self, observations: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """Mean and deviation of reference observations [N, ...] at each of the torso's `norms`."""
        return self.torso[0].measure(_preprocess(observations, self.observation_space))


def build_backbone(
    name: str,
    observation_space: gym.Space,
    seeds: Iterator[int],
    extra: int = 0,
    horizon: int = 0,
    normalize: bool = False,
    scale: float = 1.0,
    encoder: dict[str, Any] | None = None,
) -> Backbone:
    """The named backbone for these observations; raises BadInputError when the name or the space does not fit.

    `extra` is how many numbers a step it is given besides, `horizon` that of its LSTM, if it has one; `normalize` is
    whether it normalizes its observations, `scale` a factor on them. `encoder` are the sizes of one from a run, whose
    weights are read only where these are not given.
    """
    if is_encoder(name):
        if not is_image(observation_space):
            raise BadInputError(f"backbone {name!r} takes images (uint8, three-dimensional), not {observation_space}")
        height, width, _ = _preprocessed_shape(observation_space)
        codes = Codes(name, (height, width), encoder or read_sizes(name), encoder is None, seeds)
        return Backbone(observation_space, [codes], None, extra, normalize, scale)
    if name not in BACKBONES:
        raise BadInputError(f"unknown backbone {name!r}{nearest(name, BACKBONES)}")
    image = is_image(observation_space)
    if not image and not isinstance(observation_space, gym.spaces.Box | gym.spaces.Discrete):
        raise BadInputError(f"no backbone takes observations of {observation_space}; Box and Discrete spaces would fit")
    if name in _MEMORIES or name in ("highway", "residual"):
        units = 256 if image else 64
        torso = [_TORSOS["cnn" if image else "mlp"](seeds)]
        if name in _MEMORIES:
            return Backbone(observation_space, torso, _MEMORIES[name](units, seeds, horizon), extra, normalize, scale)
        deep = DeepMLP(name, units, _DEPTH, "relu", seeds)
        return Backbone(observation_space, [*torso, deep] if image else [deep], None, extra, normalize, scale)
    if (name != "mlp") is not image:
        wants = "images (uint8, three-dimensional)" if name != "mlp" else "vectors"
        fitting = [other for other in BACKBONES if other not in _TORSOS or (other != "mlp") is image]
        raise BadInputError(f"backbone {name!r} takes {wants}, not {observation_space}; {', '.join(fitting)} would fit")
    return Backbone(observation_space, [_TORSOS[name](seeds)], None, extra, normalize, scale)


def default_backbone(observation_space: gym.Space) -> str:
    """The name of the feed-forward backbone that fits these observations."""
    return "cnn" if is_image(observation_space) else "mlp"


def is_image(space: gym.Space) -> bool:
    """Whether observations are images: three-dimensional arrays of bytes, channels first or last."""
    return isinstance(space, gym.spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3


MEAN, DEVIATION = "observation_mean", "observation_deviation"  # the parameters of a normalizing backbone
_BOUND = 10.0  # of normalized observations
_DEPTH = 8  # layers of `highway` and `residual`
_WINDOW = 8  # observations that `seq2seq` reads

# Memories over `mlp` for vectors and over `cnn` for images, of as many units as that gives.
_MEMORIES: dict[str, Callable[[int, Iterator[int], int], Memory]] = {
    "rnn": lambda units, seeds, _: RNN(units, seeds),
    "lstm": lambda units, seeds, horizon: LSTM(units, seeds, horizon=horizon),
    "dnc": lambda units, seeds, horizon: DNC(
        units, seeds, controller=units, locations=16, width=16, heads=2, horizon=horizon
    ),
    "seq2seq": lambda units, seeds, _: WindowEncoder(units, _WINDOW, seeds),
}

_TORSOS: dict[str, Callable[[Iterator[int]], keras.layers.Layer]] = {
    "mlp": lambda seeds: MLP((64, 64), "tanh", seeds),
    "cnn": lambda seeds: CNN(A3C_CONVOLUTIONS, 256, seeds),
    "nature": lambda seeds: CNN(NATURE_CONVOLUTIONS, 512, seeds),
    "small-cnn": lambda seeds: CNN(SMALL_CONVOLUTIONS, 256, seeds),
    "vbn-cnn": lambda seeds: CNN(A3C_CONVOLUTIONS, 256, seeds, normalized=True),
    "vbn-small-cnn": lambda seeds: CNN(SMALL_CONVOLUTIONS, 256, seeds, normalized=True),
}


def _preprocess(observations: tf.Tensor, space: gym.Space, of_pixels: bool = False) -> tf.Tensor:
    """What the torso sees of [N, ...]: pixels, channels last; one-hot rows; or flat float vectors.

    Pixels are standardized, or between 0 and 1 for a torso `of_pixels`.
    """
    if is_image(space):
        images = tf.cast(observations, tf.float32) / 255.0 if of_pixels else _standardize(observations)
        return tf.transpose(images, (0, 2, 3, 1)) if _channels_first(space) else images
    if isinstance(space, gym.spaces.Discrete):
        return tf.one_hot(observations - int(space.start), int(space.n))
    return tf.reshape(tf.cast(observations, tf.float32), (-1, math.prod(shape_of(space))))


def _preprocessed_shape(space: gym.Space) -> tuple[int, ...]:
    """The shape of one observation after `_preprocess`."""
    if is_image(space):
        shape = shape_of(space)
        return (*shape[1:], shape[0]) if _channels_first(space) else shape
    return (int(space.n),) if isinstance(space, gym.spaces.Discrete) else (math.prod(shape_of(space)),)


def _channels_first(space: gym.Space) -> bool:
    """Whether images come as [C, H, W], as ale-py gives them."""
    return shape_of(space)[0] < shape_of(space)[2]


def _standardize(images: tf.Tensor) -> tf.Tensor:
    """Each image of uint8 [N, ...] with mean 0 and deviation 1 over its own pixels, float32.

    In pixels between 0 and 1 the background drives every filter, and a ball of a few pixels hardly moves one. Taken
    over each image alone, the statistics need no memory, so the policy stays a pure function.
    """
    images = tf.cast(images, tf.float32) / 255.0
    pixels = tf.reshape(images, (images.shape[0], -1))
    # Means as products with a vector of ones: on a CPU XLA runs those several times faster than its own reductions.
    weights = tf.fill((pixels.shape[1], 1), 1.0 / pixels.shape[1])
    mean = tf.matmul(pixels, weights)
    variance = tf.matmul(tf.square(pixels), weights) - tf.square(mean)
    scale = 1.0 / (tf.sqrt(tf.maximum(variance, 0.0)) + 1e-3)
    return tf.reshape((pixels - mean) * scale, images.shape)

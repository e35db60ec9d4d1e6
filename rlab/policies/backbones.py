"""Backbones: observations to features, [T, B, ...] to [T, B, H], feed-forward or with memory."""

from collections.abc import Callable, Iterator, Sequence

import gymnasium as gym
import keras
import tensorflow as tf

from rlab.errors import BadInputError, nearest
from rlab.models.cnn import A3C_CONVOLUTIONS, CNN, NATURE_CONVOLUTIONS, ConvSpec
from rlab.models.dnc import DNC
from rlab.models.mlp import MLP
from rlab.models.recurrent import LSTM, RNN, RecurrentLayer
from rlab.models.residual import DeepMLP
from rlab.models.window_encoder import WindowEncoder
from rlab.ops.compiling import fused
from rlab.policies.backbone_names import BACKBONES
from rlab.policies.encoders import Codes, Encoder, is_encoder
from rlab.policies.observations import SMALLEST_IMAGE, Reading, choices, one_line
from rlab.types import State

Memory = RecurrentLayer | WindowEncoder

SMALL_CONVOLUTIONS = (ConvSpec(16, 4, 2), ConvSpec(32, 4, 2), ConvSpec(32, 3, 2))
TINY_CONVOLUTIONS = (ConvSpec(16, 3, 1, "same"), ConvSpec(32, 3, 1, "same"))


class Backbone(keras.layers.Layer):
    """A feed-forward torso, layer upon layer, with a memory over it or without.

    With `extra` > 0 it is also given so many numbers a step that are no observation, such as the previous action: they
    join a vector before the torso, and what the torso makes of an image after it. With `normalize` a vector is shifted
    and scaled by `observation_mean` and `observation_deviation` and clipped to ±10 of them; these are parameters like
    all others but that no gradient reaches them. Vectors are multiplied by `scale` at last.
    """

    def __init__(
        self,
        reading: Reading,
        torso: Sequence[keras.layers.Layer],
        memory: Memory | None = None,
        extra: int = 0,
        normalize: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__(name="backbone")
        if reading.kind != "vector" and (normalize or scale != 1.0):
            raise BadInputError(
                f"only vectors can be normalized or scaled, and not observations of {one_line(reading.space)}"
            )
        self.reading, self.extra, self.normalize, self.scale = reading, extra, normalize, scale
        self.torso = list(torso)
        self.memory = memory
        self.units = memory.units if memory else torso[-1].units + (extra if reading.image else 0)

    def build(self, *_: object) -> None:
        shape: tuple[int, ...] = (1, *self.reading.shape)
        if self.normalize:
            self.mean = self.add_weight(shape=shape[1:], initializer="zeros", name=MEAN)
            self.deviation = self.add_weight(shape=shape[1:], initializer="ones", name=DEVIATION)
        before, after = (0, self.extra) if self.reading.image else (self.extra, 0)
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
        features = preprocess(features, self.reading, getattr(self.torso[0], "of_pixels", False))
        image = self.reading.image
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
        return self.torso[0].measure(preprocess(observations, self.reading))


def build_backbone(
    name: str,
    reading: Reading,
    seeds: Iterator[int],
    extra: int = 0,
    horizon: int = 0,
    normalize: bool = False,
    scale: float = 1.0,
    encoder: Encoder | None = None,
) -> Backbone:
    """The named backbone for observations of this reading; raises BadInputError when it does not fit them.

    `extra` is the count of numbers a step beside them, `horizon` that of its LSTM, if it has one; `normalize` is
    whether it normalizes its observations, `scale` a factor on them. `encoder` is that of a backbone `vae:RUN`.
    """
    if is_encoder(name):
        if not reading.image:
            raise BadInputError(f"backbone {name!r} takes images, not {_described(reading)}{_advice(reading)}")
        if encoder is None:
            raise BadInputError(f"backbone {name!r} needs encoder=rlab.runs.read_encoder({name!r})")
        height, width, _ = reading.shape
        codes = Codes(name, (height, width), encoder, seeds)
        return Backbone(reading, [codes], None, extra, normalize, scale)
    if name not in BACKBONES:
        raise BadInputError(f"unknown backbone {name!r}{nearest(name, BACKBONES)}")
    if not fits(name, reading):
        raise BadInputError(f"backbone {name!r} takes {_wanted(name)}, not {_described(reading)}{_advice(reading)}")
    units = 256 if reading.image else 64
    torso = [_TORSOS[torso_of(name, reading)](seeds)]
    if name in MEMORIES:
        return Backbone(reading, torso, MEMORIES[name](units, seeds, horizon), extra, normalize, scale)
    if name in _DEEP:
        deep = DeepMLP(name, units, _DEPTH, "relu", seeds)
        torso = [*torso, deep] if reading.image else [deep]
    return Backbone(reading, torso, None, extra, normalize, scale)


def default_backbone(reading: Reading) -> str:
    """The name of the feed-forward backbone that fits these observations."""
    names = ("cnn", "small-cnn", "tiny-cnn") if reading.image else ("mlp",)
    return next(name for name in names if fits(name, reading))


def torso_of(name: str, reading: Reading) -> str:
    """The name of the torso below a backbone's memory or deep layers; of a backbone without, its own name."""
    return default_backbone(reading) if name in MEMORIES or name in _DEEP else name


def fits(name: str, reading: Reading) -> bool:
    """True if the named backbone takes observations of this reading."""
    if name in MEMORIES or name in _DEEP:
        return True
    return reading.image and min(reading.shape[:2]) >= _SMALLEST[name] if name in _SMALLEST else not reading.image


def has_reference(name: str) -> bool:
    """Tell whether the named backbone normalizes by a reference batch, which its agent has to measure."""
    return name.startswith("vbn-")


def _wanted(name: str) -> str:
    """The observations that a backbone takes, in words."""
    return f"images of {_SMALLEST[name]}×{_SMALLEST[name]} pixels at least" if name in _SMALLEST else "vectors"


def _described(reading: Reading) -> str:
    return f"observations of {one_line(reading.space)} (read as: {reading})"


def _advice(reading: Reading) -> str:
    fitting = [name for name in BACKBONES if fits(name, reading) and not has_reference(name)]
    return f"; {', '.join(fitting)} would fit"


MEAN, DEVIATION = "observation_mean", "observation_deviation"  # the parameters of a normalizing backbone
_BOUND = 10.0  # of normalized observations
_CONTRAST = 4.0  # of pixels about their background
_DEEP = ("highway", "residual")
_DEPTH = 8  # their layers
_WINDOW = 8  # observations that `seq2seq` reads

# Memories over `mlp` for vectors and over the convolutions that fit for images, of as many units as those give.
MEMORIES: dict[str, Callable[[int, Iterator[int], int], Memory]] = {
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
    "tiny-cnn": lambda seeds: CNN(TINY_CONVOLUTIONS, 256, seeds),
}


def _smallest(convolutions: Sequence[ConvSpec]) -> int:
    """Pixels to a side that convolutions need."""
    side = 1
    for spec in reversed(convolutions):
        side = (side - 1) * spec.stride + (spec.kernel if spec.padding == "valid" else 1)
    return max(side, SMALLEST_IMAGE)


# Pixels to a side of the images that convolutions take.
_SMALLEST = {
    name: _smallest(convolutions)
    for convolutions, names in (
        (A3C_CONVOLUTIONS, ("cnn", "vbn-cnn")),
        (NATURE_CONVOLUTIONS, ("nature",)),
        (SMALL_CONVOLUTIONS, ("small-cnn", "vbn-small-cnn")),
        (TINY_CONVOLUTIONS, ("tiny-cnn",)),
    )
    for name in names
}


def preprocess(observations: tf.Tensor, reading: Reading, of_pixels: bool = False) -> tf.Tensor:
    """The torso's input from observations [N, ...]: pixels, channels last; one-hot rows; or flat float vectors.

    Pixels are as the reading says, or between 0 and 1 for a torso `of_pixels`.
    """
    if reading.image:
        return fused(lambda given: _images(given, reading, of_pixels), observations)
    if reading.kind == "one-hot":
        return _one_hot(observations, reading.space)
    return tf.reshape(tf.cast(observations, tf.float32), (-1, *reading.shape))


def _images(observations: tf.Tensor, reading: Reading, of_pixels: bool) -> tf.Tensor:
    """Pixels of images [N, H, W, C]."""
    pixels = tf.cast(observations, tf.float32)
    if not of_pixels and reading.background is not None:
        # What is everywhere then drives no filter, and what differs from it has the size that layers expect.
        return _channels_last((pixels - reading.background) * (_CONTRAST / (reading.high - reading.low)), reading)
    if reading.low:
        pixels -= reading.low
    pixels /= reading.high - reading.low
    return _channels_last(pixels if of_pixels else _standardize(pixels), reading)


def _channels_last(images: tf.Tensor, reading: Reading) -> tf.Tensor:
    """Images [N, ...] as [N, H, W, C]."""
    where = [axis + 1 for axis in reading.axes]
    order = [0, *where, *(axis for axis in range(1, len(images.shape)) if axis not in where)]
    images = tf.transpose(images, order) if order != sorted(order) else images
    return images if len(order) == 4 else tf.reshape(images, (-1, *reading.shape))


def _one_hot(observations: tf.Tensor, space: gym.Space) -> tf.Tensor:
    """Numbers [N, ...] as rows [N, F] of zeros and a one for each."""
    observations = tf.cast(observations, tf.int64)  # of some integers there are no one-hot rows
    if isinstance(space, gym.spaces.Discrete):
        return tf.one_hot(observations - int(space.start), int(space.n))
    assert isinstance(space, gym.spaces.MultiDiscrete)
    numbers = tf.reshape(observations - space.start.astype("int64"), (-1, len(choices(space))))
    rows = zip(tf.unstack(numbers, axis=-1), choices(space), strict=True)
    return tf.concat([tf.one_hot(chosen, count) for chosen, count in rows], -1)


def _standardize(images: tf.Tensor) -> tf.Tensor:
    """Each image of float32 [N, ...] with mean 0 and deviation 1 over its own pixels.

    In pixels between 0 and 1 the background drives every filter, and a ball of a few pixels hardly moves one. Taken
    over each image alone, the statistics need no memory, so the policy stays a pure function.
    """
    pixels = tf.reshape(images, (images.shape[0], -1))
    # Means as products with a vector of ones: on a CPU XLA runs those several times faster than its own reductions.
    weights = tf.fill((pixels.shape[1], 1), 1.0 / pixels.shape[1])
    mean = tf.matmul(pixels, weights)
    variance = tf.matmul(tf.square(pixels), weights) - tf.square(mean)
    scale = 1.0 / (tf.sqrt(tf.maximum(variance, 0.0)) + 1e-3)
    return tf.reshape((pixels - mean) * scale, images.shape)

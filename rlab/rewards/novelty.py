"""A bonus for novelty: pseudo-counts from a density of observations that is learned while the agent plays.

Ostrovski, Bellemare, van den Oord, Munos, "Count-based exploration with neural density models", 2017, on Bellemare et
al. 2016. The density ρ is a PixelCNN, which takes one step of learning at each observation x, from ρ_n to ρ_{n+1}:

    PG_n(x) = ln ρ_{n+1}(x) − ln ρ_n(x)                        the prediction gain
    N_n(x) = 1 / (exp(c n^{-1/2} max(PG_n(x), 0)) − 1)          the pseudo-count, section 3
    r⁺(x) = N_n(x)^{-1/2}

Departures: the environments that step together share one step of learning, by Adam, whose number is n; no bonus is
above 1, as if everything had been seen once; and so that two cores suffice, images are seen in about 21×21 pixels of 8
levels (the paper: 42×42) by two blocks of 16 units. Vectors are images of one row, each number in one of 32 levels.
"""

import dataclasses
import functools
import threading
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import tensorflow as tf

from rlab.datasets.frames import grey
from rlab.errors import BadInputError
from rlab.models.initializers import seed_stream
from rlab.models.parameters import ParameterLayout
from rlab.models.pixelrnn import PixelRNN
from rlab.ops import adam, moments
from rlab.policies.actions import shape_of
from rlab.policies.observations import one_line, reading_of
from rlab.rewards.models import Averages, RewardModel
from rlab.seeding import derive
from rlab.settings import check, field
from rlab.state import unpack

_SIDE = 21  # pixels, about
_REACH = 3.0  # deviations to either side, of numbers without bounds


@dataclasses.dataclass(frozen=True)
class NoveltyConfig:
    """Settings of the bonus; an agent takes them as its `rewards`."""

    replaces: ClassVar[bool] = False
    weight: float = field(1.0, "of the bonus beside the environment's rewards", low=0.0, above=True)
    scale: float = field(0.1, "c of the pseudo-counts", low=0.0, above=True)
    learning_rate: float = field(3e-3, "step size of the density's Adam", low=0.0, above=True)
    units: int = field(16, "h of the density's blocks", low=1)
    depth: int = field(2, "its blocks", low=1)

    def __post_init__(self) -> None:
        check(self)

    def make(self, observation_space: gym.Space, action_space: gym.Space, seed: int) -> RewardModel:
        """A new density; raises BadInputError for observations that are no vectors and no images."""
        return Novelty(observation_space, self, seed)

    def describe(self) -> dict[str, Any]:
        """The kind and the settings, JSON data."""
        return {"kind": "novelty", **dataclasses.asdict(self)}


def pseudo_counts(gain: tf.Tensor, learned: tf.Tensor, scale: float) -> tf.Tensor:
    """N of each prediction gain, float32 [B], after `learned` steps; infinite where nothing was gained."""
    return 1.0 / tf.math.expm1(scale * tf.math.rsqrt(learned) * tf.maximum(gain, 0.0))


class Novelty:
    """A density of observations, and the bonus that it gives for those it did not expect."""

    def __init__(self, space: gym.Space, config: NoveltyConfig, seed: int) -> None:
        self._config, self._lock, self._averages = config, threading.Lock(), Averages("bonus", "surprise")
        self.reading = reading_of(space)
        if self.reading.kind == "one-hot":
            raise BadInputError(
                f"novelty is known of observations that are images or vectors, and not of {one_line(space)}"
            )
        image = self.reading.image
        if not image:
            low, high = _bounds(space)
            self._bounded = np.isfinite(low) & np.isfinite(high) & (high / 2.0 - low / 2.0 < 5e5)
            self._low = np.where(self._bounded, low, 0.0)
            self._span = np.where(self._bounded, high - self._low, 1.0)
        self._seen = moments.empty(0 if image else self.reading.shape[0])
        self._levels = 8 if image else 32
        model = PixelRNN("pixelcnn", config.units, config.depth, self._levels, seed_stream(derive(seed, "novelty")))
        model.build()
        self._layout = ParameterLayout(model)
        self._params = tf.constant(self._layout.initial())
        self._state = adam.initial_state(self._layout.size)
        self._learn = tf.function(functools.partial(self._step, model), jit_compile=True, autograph=False)

    def give(
        self, before: np.ndarray, actions: np.ndarray, after: np.ndarray, rewards: np.ndarray, counts: np.ndarray
    ) -> np.ndarray:
        """The rewards plus the weighted bonus of the observation to which each step led."""
        with self._lock:
            images = self.in_levels(after, counts)
            self._params, self._state, bonus, surprise = self._learn(
                self._params, self._state, tf.constant(images), tf.constant(counts.astype(np.float32))
            )
            found = bonus.numpy()
            self._averages.tell(bonus=found[counts].mean() if counts.any() else 0.0, surprise=float(surprise))
        return rewards + self._config.weight * found

    def in_levels(self, observations: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Observations as small images of the density's levels, float32 [B, H, W] from 0 to 1."""
        if self.reading.image:
            values = _shrunk(grey(observations, self.reading)) / 255.0
        else:
            observations = observations.reshape(len(observations), -1)
            self._seen = moments.merge(self._seen, moments.of_rows(observations[counts]))
            reach = _REACH * self._seen.deviation + 1e-8
            low = np.where(self._bounded, self._low, self._seen.mean - reach)
            span = np.where(self._bounded, self._span, 2.0 * reach)
            values = ((observations - low) / span)[:, None]
        return (np.clip(np.round(values * (self._levels - 1)), 0, self._levels - 1) / (self._levels - 1)).astype(
            np.float32
        )

    def _step(
        self, model: PixelRNN, params: tf.Tensor, state: adam.AdamState, images: tf.Tensor, counts: tf.Tensor
    ) -> tuple:
        """One step of learning: parameters, Adam's state, the bonuses [B] and the mean surprise, −ln ρ."""
        with tf.GradientTape() as tape:
            tape.watch(params)
            known = self._layout.call(params, model.log_prob, images)
            surprise = -tf.reduce_sum(known * counts) / tf.maximum(tf.reduce_sum(counts), 1.0)
        params, state = adam.adam(params, state, tape.gradient(surprise, params), self._config.learning_rate)
        gain = self._layout.call(params, model.log_prob, images) - known
        found = pseudo_counts(gain, state.count, self._config.scale)
        return params, state, tf.math.rsqrt(tf.maximum(found, 1.0)), surprise

    def metrics(self) -> dict[str, float]:
        """`bonus`, and the density's `surprise` in nats an observation, before it learned of it."""
        with self._lock:
            return self._averages.take()

    def state(self) -> dict[str, Any]:
        """The density's parameters, Adam's state, and the moments of observed vectors."""
        with self._lock:
            return {"params": self._params, "adam": self._state, "seen": self._seen}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `state` gave."""
        found = unpack(self.state(), arrays)
        with self._lock:
            self._params, self._state, self._seen = found["params"], found["adam"], found["seen"]


def _bounds(space: gym.Space) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of a vector [F], float64 each."""
    whole = np.zeros(shape_of(space)), np.ones(shape_of(space))
    low, high = (space.low, space.high) if isinstance(space, gym.spaces.Box) else whole
    return np.ravel(low).astype(np.float64), np.ravel(high).astype(np.float64)


def _shrunk(images: np.ndarray) -> np.ndarray:
    """Images [B, H, W] as the means of blocks, about 21 to a side; what is left over at the edges is cut off."""
    for axis in (1, 2):
        block = max(1, round(images.shape[axis] / _SIDE))
        images = np.moveaxis(images, axis, -1)
        kept = images[..., : images.shape[-1] // block * block]
        images = np.moveaxis(kept.reshape(*kept.shape[:-1], -1, block).mean(-1), -1, axis)
    return images

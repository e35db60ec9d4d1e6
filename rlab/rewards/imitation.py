"""Generative adversarial imitation: a discriminator that tells an agent from a demonstrator is the agent's reward.

Ho, Ermon, "Generative adversarial imitation learning", 2016, algorithm 1. D(x, a) is the logarithm of the odds that the
demonstrator was in x and did a there. It learns by the loss of a GAN's discriminator (`rlab/models/gan.py`), with
the agent's steps in the place of drawn images; the agent never sees the environment's rewards.

The reward is −ln(1 − σ(D)). It is above 0 whatever one does: where an episode ends at a goal, an agent may rather stay
away from it, as with every reward of the kind (Kostrikov et al. 2019, "Discriminator-actor-critic").

Departures: a reward is that of the discriminator before it learns of the step; and D's slope at what was demonstrated
is held down, as in the project's GANs.
"""

import dataclasses
import functools
import threading
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import tensorflow as tf

from rlab.arrays import like
from rlab.errors import BadInputError
from rlab.files import digest_of, require_same_file
from rlab.models.gan import DenseDiscriminator, discriminator_loss
from rlab.models.initializers import seed_stream
from rlab.models.parameters import ParameterLayout
from rlab.ops import adam
from rlab.policies.observations import one_line, reading_of
from rlab.rewards import demonstrations
from rlab.rewards.demonstrations import Demonstrations
from rlab.rewards.models import Averages, RewardModel
from rlab.seeding import derive
from rlab.settings import check, field
from rlab.state import unpack


@dataclasses.dataclass(frozen=True)
class ImitationConfig:
    """Settings of the discriminator; an agent takes them as its `rewards`."""

    replaces: ClassVar[bool] = True
    demonstrations: str = field("", "file of `record --demonstrations`")
    digest: str = field("", "SHA-256 of that file, by which a run knows it again; empty for any")
    units: int = field(100, "of each of its two layers", low=1)
    batch_size: int = field(1024, "agent steps after which it learns", low=1)
    minibatch: int = field(128, "steps of the agent, and as many of the demonstrator, to one step of learning", low=1)
    learning_rate: float = field(3e-4, "step size of its Adam", low=0.0, above=True)
    penalty: float = field(0.1, "weight of half the squared slope of D at what was demonstrated (R1)", low=0.0)

    def __post_init__(self) -> None:
        check(self)

    def make(self, observation_space: gym.Space, action_space: gym.Space, seed: int) -> RewardModel:
        """A new discriminator.

        Raises BadInputError for a file that holds no demonstrations or others than `digest` says, for demonstrations of
        another kind of environment, and for observations that are no vectors.
        """
        require_same_file(self.demonstrations, self.digest)
        return Imitation(observation_space, action_space, demonstrations.load(self.demonstrations), self, seed)

    def describe(self) -> dict[str, Any]:
        """The kind and the settings, JSON data, with the digest of the file as it is now."""
        digest = digest_of(self.demonstrations) if Path(self.demonstrations).exists() else ""
        return {"kind": "imitation", **dataclasses.asdict(self), "digest": digest}


class Imitation:
    """A discriminator between demonstrated steps and those of the agent."""

    def __init__(
        self, observations: gym.Space, actions: gym.Space, shown: Demonstrations, config: ImitationConfig, seed: int
    ) -> None:
        _check_fit(observations, actions, shown, config.demonstrations)
        self._config, self._seed, self._actions = config, seed, actions
        self._lock = threading.Lock()
        self._averages = Averages("imitation_reward", "discriminator_loss", "told_apart")
        seen = shown.observations.reshape(len(shown.observations), -1).astype(np.float64)
        self._mean, self._deviation = seen.mean(0), seen.std(0) + 1e-3
        self._shown = self._pairs(shown.observations, shown.actions)
        self._discriminator = DenseDiscriminator((config.units,) * 2, seed_stream(derive(seed, "discriminator")))
        self._discriminator.build(self._shown.shape)
        self._layout = ParameterLayout(self._discriminator)
        self._params = tf.constant(self._layout.initial())
        self._state = adam.initial_state(self._layout.size)
        self._gathered = [self._shown[:0]]
        self._judge = tf.function(self._odds, jit_compile=True, autograph=False)
        self._learn = tf.function(self._step, jit_compile=True, autograph=False)

    def _pairs(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Observations, standardized by what was demonstrated, beside actions; float32 [N, F]."""
        seen = np.clip((observations.reshape(len(observations), -1) - self._mean) / self._deviation, -10.0, 10.0)
        if isinstance(self._actions, gym.spaces.Discrete):
            done = np.eye(int(self._actions.n))[actions - int(self._actions.start)]
        else:
            done = actions.reshape(len(actions), -1)
        return np.concatenate([seen, done], axis=1, dtype=np.float32)

    def _odds(self, params: tf.Tensor, pairs: tf.Tensor) -> tf.Tensor:
        return self._layout.call(params, self._discriminator, pairs)

    def give(
        self, before: np.ndarray, actions: np.ndarray, after: np.ndarray, rewards: np.ndarray, counts: np.ndarray
    ) -> np.ndarray:
        """−ln(1 − σ(D)) of each step; where a batch of steps is complete, the discriminator learns of it."""
        pairs = self._pairs(before, actions)
        with self._lock:
            odds = self._judge(self._params, tf.constant(pairs)).numpy()
            given = np.logaddexp(0.0, odds)
            if counts.any():
                self._averages.tell(imitation_reward=given[counts].mean())
            self._gathered.append(pairs[counts])
            if sum(map(len, self._gathered)) >= max(self._config.batch_size, self._config.minibatch):
                self._learn_of(np.concatenate(self._gathered))
                self._gathered = [self._shown[:0]]
        return given

    def _learn_of(self, pairs: np.ndarray) -> None:
        """Learn from the agent's pairs [N, F] in one pass, beside as many of the demonstrated ones."""
        size, generator = self._config.minibatch, np.random.default_rng(self._draw())
        order = generator.permutation(len(pairs))
        for first in range(0, len(pairs) - size + 1, size):
            done = pairs[order[first : first + size]]
            shown = self._shown[generator.integers(len(self._shown), size=size)]
            self._params, self._state, loss, apart = self._learn(
                self._params, self._state, tf.constant(shown), tf.constant(done)
            )
            self._averages.tell(discriminator_loss=float(loss), told_apart=float(apart))

    def _draw(self) -> int:
        return derive(self._seed, "minibatches", int(self._state.count))

    def _step(self, params: tf.Tensor, state: adam.AdamState, shown: tf.Tensor, done: tf.Tensor) -> tuple:
        """One step: parameters, Adam's state, the loss, and the part of the pairs that D tells rightly."""
        with tf.GradientTape() as tape:
            tape.watch(params)
            false = self._odds(params, done)
            loss = discriminator_loss(functools.partial(self._odds, params), shown, false, self._config.penalty)
            whole = loss.likelihood + loss.penalty
        params, state = adam.adam(params, state, tape.gradient(whole, params), self._config.learning_rate, 0.5)
        right = tf.concat([loss.real > 0.0, false < 0.0], 0)
        return params, state, loss.likelihood, tf.reduce_mean(tf.cast(right, tf.float32))

    def metrics(self) -> dict[str, float]:
        """`imitation_reward`; the `discriminator_loss` in nats, and the part of pairs `told_apart`, 0.5 at best."""
        with self._lock:
            return self._averages.take()

    def state(self) -> dict[str, Any]:
        """The discriminator's parameters, Adam's state, and what is gathered for its next batch."""
        with self._lock:
            return {"params": self._params, "adam": self._state, "gathered": np.concatenate(self._gathered)}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `state` gave."""
        gathered = np.atleast_1d(arrays["gathered"])  # of as many steps as there were
        like({"gathered": gathered[:0]}, "gathered", self._shown[:0])
        found = unpack({"params": self._params, "adam": self._state}, arrays)
        with self._lock:
            self._params, self._state, self._gathered = found["params"], found["adam"], [gathered]


def _check_fit(observations: gym.Space, actions: gym.Space, shown: Demonstrations, path: str) -> None:
    """Raise BadInputError where the demonstrations are not of such an environment, or of none that can be imitated."""
    if reading_of(observations).kind != "vector":
        raise BadInputError(f"imitation is known of observations that are vectors, and not of {one_line(observations)}")
    if not isinstance(actions, gym.spaces.Discrete | gym.spaces.Box):
        raise BadInputError(f"imitation is known of discrete actions and of vectors, and not of {one_line(actions)}")
    for what, space, found in (("observations", observations, shown.observations), ("actions", actions, shown.actions)):
        if found.shape[1:] != space.shape:
            raise BadInputError(
                f"{path} was recorded in another environment: its {what} have shape {found.shape[1:]}, "
                f"not {space.shape}"
            )
    if isinstance(actions, gym.spaces.Discrete):
        first, last = int(actions.start), int(actions.start + actions.n - 1)
        low, high = shown.actions.min(), shown.actions.max()
        if not first <= low <= high <= last:
            raise BadInputError(
                f"{path} was recorded in another environment: it has actions from {low} to {high}, "
                f"which are {first} to {last} here"
            )
    if not np.isfinite(shown.observations).all() or not np.isfinite(shown.actions).all():
        raise BadInputError(f"{path} is damaged: it holds numbers that are not finite")

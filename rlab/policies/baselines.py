"""Baselines of policy-gradient agents: the expected return of an episode, before the action is known.

A baseline is fitted after it was used, so that its values on a batch do not depend on that batch's actions, and the
policy's gradient stays unbiased (Williams 1992; Wierstra et al. 2009, section 3.2).
"""

import functools
import math
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
import tensorflow as tf

from rlab.models.linear import posterior_of_moments
from rlab.ops import adam, bptt
from rlab.ops.sharing import compiled_once, once
from rlab.parallel.comm import Communicator, Serial
from rlab.policies.actions import shape_of
from rlab.policies.normalization import ObservationNormalizer, ReturnMoments
from rlab.policies.policy import Policy
from rlab.state import unpack
from rlab.types import EpisodeBatch

_PRIOR_VARIANCE = 1e5  # with unit noise: the ridge of 1e-5 that rllab begins with
_BOUND = 1.0  # on the Euclidean norm of the recurrent baseline's gradient


class Baseline(Protocol):
    """The interface of a baseline."""

    def predict(self, batch: EpisodeBatch) -> np.ndarray:
        """The expected return from each step on, float32 [T, B]; values on padding are not used."""

    def fit(self, batch: EpisodeBatch, returns: np.ndarray, comm: Communicator) -> None:
        """Learn from the returns [T, B] of the episodes of all ranks."""

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint: arrays in nested mappings and named tuples."""

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `state` gave, as `rlab.state.pack` names it."""


class NoBaseline:
    """The baseline 0."""

    def predict(self, batch: EpisodeBatch) -> np.ndarray:
        return np.zeros_like(batch.rewards)

    def fit(self, batch: EpisodeBatch, returns: np.ndarray, comm: Communicator) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        pass


class ConstantBaseline:
    """One number: the mean return of past batches."""

    def __init__(self) -> None:
        self._moments = ReturnMoments()
        self.state, self.restore = self._moments.state, self._moments.restore

    def predict(self, batch: EpisodeBatch) -> np.ndarray:
        return np.full_like(batch.rewards, self._moments.mean)

    def fit(self, batch: EpisodeBatch, returns: np.ndarray, comm: Communicator) -> None:
        self._moments.add(batch.valid, returns, comm)


class LinearBaseline:
    """V(x_t, t) = w·φ(x_t, t), linear in features of observation and time (Duan et al. 2016, appendix).

    φ = (x, x², τ, τ², τ³, 1), x clipped to ±10 and τ = t/100, t the step within the episode; as rllab's
    LinearFeatureBaseline. Before the first fit it predicts 0.
    """

    def __init__(self) -> None:
        self.weights: np.ndarray | None = None  # float32 [2·O + 4]

    def fit_to(
        self, observations: np.ndarray, times: np.ndarray, returns: np.ndarray, comm: Communicator | None = None
    ) -> None:
        """Fit to observations [..., *O], steps within the episode [...] and returns [...], by ridge regression."""
        features = linear_features(observations, times).numpy().astype(np.float64)
        features = features.reshape(-1, features.shape[-1])
        total = (comm or Serial()).sum
        gram, moment = total(features.T @ features), total(features.T @ np.ravel(returns))
        self.weights = posterior_of_moments(gram, moment, 1.0, _PRIOR_VARIANCE).mean.numpy()

    def predict_at(self, observations: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Values float32 [...] of observations [..., *O] at steps [...] of their episodes."""
        if self.weights is None:
            return np.zeros(np.shape(times), np.float32)
        return linear_features(observations, times).numpy() @ self.weights

    def predict(self, batch: EpisodeBatch) -> np.ndarray:
        return self.predict_at(batch.observations, _times(batch))

    def fit(self, batch: EpisodeBatch, returns: np.ndarray, comm: Communicator) -> None:
        counted = batch.valid != 0.0
        self.fit_to(batch.observations[counted], _times(batch)[counted], returns[counted], comm)

    def state(self) -> dict[str, Any]:
        return {} if self.weights is None else {"weights": self.weights}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        self.weights = arrays.get("weights")


def linear_features(observations: Any, times: Any) -> tf.Tensor:
    """φ(x_t, t), float32 [..., 2·O + 4], of observations of any shape at times [...]."""
    vectors = tf.reshape(observations, (*times.shape, -1))
    x = tf.clip_by_value(tf.cast(vectors, tf.float32), -10.0, 10.0)
    tau = tf.cast(times, tf.float32)[..., None] / 100.0
    return tf.concat([x, x**2, tau, tau**2, tau**3, tf.ones_like(tau)], -1)


def steps_within_episodes(resets: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
    """The step within the episode, int [T, B], from resets [T, B] and the steps `first` [B] to begin with."""
    counts = np.zeros(resets.shape, np.int64)
    count = np.full(resets.shape[1], -1) if first is None else np.asarray(first) - 1
    for t, reset in enumerate(resets):
        count = np.where(reset > 0.0, 0, count + 1)
        counts[t] = count
    return counts


def _times(batch: EpisodeBatch) -> np.ndarray:
    """The step within the episode, int [T, B]."""
    return np.broadcast_to(np.arange(len(batch.valid))[:, None], batch.valid.shape)


class _Chunk(NamedTuple):
    """C steps of a batch."""

    observations: Any  # [C, B, ...]
    resets: Any  # [C, B]
    actions: Any  # [C, B, ...]
    weights: Any  # [C, B] of each step in the loss, 0 in padding
    targets: Any  # [C, B] standardized returns


class RecurrentBaseline:
    """V(x_1, a_1, …, x_t), by a network like the policy's whose parameters are its own.

    It learns standardized returns, so that its step size need not fit their scale, one step of Adam to each batch.

    Args:
        network: of the policy's architecture; only its values are used.
        seed: of its first parameters.
        learning_rate: of Adam.
        truncation: steps beyond which no gradient flows back, as the policy's; 0 for none.
        chunk: C, steps that are differentiated at once.
        clock: steps to an hour of the clock that the network sees beside each observation; 0 for no clock. Where a time
            limit ends episodes, what is still to come depends on the time (Pardo et al. 2018).
    """

    def __init__(
        self, network: Policy, seed: int, learning_rate: float, truncation: int, chunk: int, clock: int = 0
    ) -> None:
        self._network, self._rate, self._chunk, self._clock = network, learning_rate, chunk, clock
        self._truncation = truncation // chunk
        self._params = tf.constant(network.initial_parameters(seed))
        self._adam = adam.initial_state(network.size)
        self._moments, self._normalizer = ReturnMoments(), ObservationNormalizer(network)
        self._states: list[Any] = []
        self._gradient = once(lambda: bptt.compile_gradient(functools.partial(_loss, network), 1), "loss", network)

        def values(params: tf.Tensor, state: Any, chunk: _Chunk) -> tuple[tf.Tensor, Any]:
            output, state = network.apply(params, chunk.observations, state, chunk.resets, chunk.actions)
            return output.values, state

        make = functools.partial(tf.function, values, jit_compile=True, autograph=False)
        self._values = once(make, "values", network)
        self._step = compiled_once(adam.adam)

    def predict(self, batch: EpisodeBatch) -> np.ndarray:
        state, found = self._network.initial_state(batch.rewards.shape[1]), []
        self._states = []
        for chunk in self._chunks(batch, np.zeros_like(batch.rewards), np.zeros_like(batch.rewards)):
            self._states.append(state)
            values, state = self._values(self._params, state, chunk)
            found.append(values.numpy())
        return self._moments.mean + self._moments.deviation * np.concatenate(found)

    def fit(self, batch: EpisodeBatch, returns: np.ndarray, comm: Communicator) -> None:
        self._moments.add(batch.valid, returns, comm)
        total = float(comm.sum(np.array(batch.valid.sum(), np.float64)))
        targets = ((returns - self._moments.mean) / self._moments.deviation).astype(np.float32)
        chunks = self._chunks(batch, batch.valid / np.float32(total), targets)
        gradient, _ = self._gradient(self._params, self._states, chunks, self._truncation)
        gradient = tf.clip_by_norm(tf.constant(comm.sum(gradient.numpy())), _BOUND)
        params, self._adam = self._step(self._params, self._adam, gradient, tf.constant(self._rate))
        self._normalizer.add(self._with_clock(batch.observations)[batch.valid != 0.0], comm)
        self._params = self._normalizer.write_to(self._network, params)

    def state(self) -> dict[str, Any]:
        own = {"network": self._network.named(self._params.numpy()), "adam": self._adam}
        return own | self._normalizer.state() | self._moments.state()

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        own: dict[str, Any] = {"network": self._network.named(self._params.numpy()), "adam": self._adam}
        found = unpack(own, arrays)
        self._params, self._adam = tf.constant(self._network.flatten(found["network"])), found["adam"]
        self._normalizer.restore(arrays)
        self._moments.restore(arrays)

    def _chunks(self, batch: EpisodeBatch, weights: np.ndarray, targets: np.ndarray) -> list[_Chunk]:
        whole = _Chunk(self._with_clock(batch.observations), batch.resets, batch.actions, weights, targets)
        return bptt.split(whole, self._chunk)

    def _with_clock(self, observations: np.ndarray) -> np.ndarray:
        if not self._clock:
            return observations
        time = np.arange(len(observations), dtype=np.float32)[:, None, None] / self._clock
        vectors = observations.reshape(*observations.shape[:2], -1)
        return np.concatenate([vectors, np.broadcast_to(time, (*vectors.shape[:2], 1))], -1, dtype=np.float32)


def _loss(network: Policy, params: tf.Tensor, state: Any, chunk: _Chunk) -> tuple[tf.Tensor, tf.Tensor, Any]:
    output, state = network.apply(params, chunk.observations, state, chunk.resets, chunk.actions)
    loss = tf.reduce_sum(chunk.weights * tf.square(chunk.targets - output.values))
    return loss, loss[None], state


def with_clock(space: gym.Space) -> gym.spaces.Box:
    """The space of the given one's vectors with one more number."""
    return gym.spaces.Box(-np.inf, np.inf, (math.prod(shape_of(space)) + 1,), np.float32)

"""Baselines of policy-gradient agents: what an episode's return is expected to be, before the action is known.

A baseline is fitted after it was used, so that what it says of a batch does not depend on that batch's actions, and the
policy's gradient stays unbiased (Williams 1992; Wierstra et al. 2009, section 3.2).
"""

from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from rlab.arrays import like
from rlab.models.linear import posterior_of_moments
from rlab.parallel.comm import Communicator, Serial
from rlab.types import EpisodeBatch

_PRIOR_VARIANCE = 1e5  # with unit noise: the ridge of 1e-5 that rllab begins with
_DECAY = 0.9  # of the moments of returns, per batch


class Baseline(Protocol):
    """What an agent asks of a baseline."""

    def predict(self, batch: EpisodeBatch) -> np.ndarray:
        """The expected return from each step on, float32 [T, B]; what it says of padding is not used."""

    def fit(self, batch: EpisodeBatch, returns: np.ndarray, comm: Communicator) -> None:
        """Learn from the returns [T, B] of the episodes of all ranks."""

    def arrays(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps."""

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `arrays` gave."""


class NoBaseline:
    """Expects nothing."""

    def predict(self, batch: EpisodeBatch) -> np.ndarray:
        return np.zeros_like(batch.rewards)

    def fit(self, batch: EpisodeBatch, returns: np.ndarray, comm: Communicator) -> None:
        pass

    def arrays(self) -> dict[str, np.ndarray]:
        return {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        pass


class ReturnMoments:
    """Mean and deviation of the returns of past batches, the recent ones more; the same on all ranks."""

    def __init__(self) -> None:
        self._sums = np.zeros(3)  # weights, returns, squared returns

    def add(self, valid: np.ndarray, returns: np.ndarray, comm: Communicator) -> None:
        """Count the returns [T, B] where `valid` is not 0."""
        counted = returns[valid != 0.0].astype(np.float64)
        sums = comm.sum(np.array([counted.size, counted.sum(), np.square(counted).sum()]))
        self._sums = _DECAY * self._sums + (1.0 - _DECAY) * sums

    @property
    def mean(self) -> float:
        """0 before the first batch."""
        return float(self._sums[1] / self._sums[0]) if self._sums[0] else 0.0

    @property
    def deviation(self) -> float:
        """Never 0; 1 before the first batch."""
        if not self._sums[0]:
            return 1.0
        return float(np.sqrt(max(self._sums[2] / self._sums[0] - self.mean**2, 0.0))) + 1e-6

    def arrays(self) -> dict[str, np.ndarray]:
        return {"moments": self._sums}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        self._sums = like(arrays, "moments", self._sums)


class ConstantBaseline:
    """One number: the mean return of past batches."""

    def __init__(self) -> None:
        self._moments = ReturnMoments()
        self.arrays, self.restore = self._moments.arrays, self._moments.restore

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

    def arrays(self) -> dict[str, np.ndarray]:
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
    """How many steps each episode has made, int [T, B], from resets [T, B] and the counts `first` [B] before them."""
    counts = np.zeros(resets.shape, np.int64)
    count = np.full(resets.shape[1], -1) if first is None else np.asarray(first) - 1
    for t, reset in enumerate(resets):
        count = np.where(reset > 0.0, 0, count + 1)
        counts[t] = count
    return counts


def _times(batch: EpisodeBatch) -> np.ndarray:
    """The step within the episode, int [T, B]."""
    return np.broadcast_to(np.arange(len(batch.valid))[:, None], batch.valid.shape)

"""Baselines of policy-gradient agents that are not networks."""

import numpy as np

from rlab.models.linear import maximum_a_posteriori

_PRIOR_VARIANCE = 1e5  # with unit noise: the ridge of 1e-5 that rllab begins with


class LinearBaseline:
    """V(x_t, t) = w·φ(x_t, t), linear in features of observation and time (Duan et al. 2016, appendix).

    φ = (x, x², τ, τ², τ³, 1), x clipped to ±10 and τ = t/100, t the step within the episode; as rllab's
    LinearFeatureBaseline. Before the first `fit` it predicts 0.
    """

    def __init__(self) -> None:
        self.weights: np.ndarray | None = None  # float32 [2·O + 4]

    def fit(self, observations: np.ndarray, times: np.ndarray, returns: np.ndarray) -> None:
        """Fit to observations [..., O], steps within the episode [...] and returns [...], by ridge regression."""
        features = linear_features(observations, times)
        features = features.reshape(-1, features.shape[-1])
        self.weights = maximum_a_posteriori(features, np.ravel(returns), 1.0, _PRIOR_VARIANCE).numpy()

    def predict(self, observations: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Values float32 [...] of observations [..., O] at steps [...] of their episodes."""
        if self.weights is None:
            return np.zeros(np.shape(times), np.float32)
        return linear_features(observations, times) @ self.weights


def linear_features(observations: np.ndarray, times: np.ndarray) -> np.ndarray:
    """φ(x_t, t), float32 [..., 2·O + 4]."""
    x = np.clip(np.asarray(observations, np.float32), -10.0, 10.0)
    tau = np.asarray(times, np.float32)[..., None] / 100.0
    return np.concatenate([x, x**2, tau, tau**2, tau**3, np.ones_like(tau)], -1)


def steps_within_episodes(resets: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
    """How many steps each episode has made, int [T, B], from resets [T, B] and the counts `first` [B] before them."""
    counts = np.zeros(resets.shape, np.int64)
    count = np.full(resets.shape[1], -1) if first is None else np.asarray(first) - 1
    for t, reset in enumerate(resets):
        count = np.where(reset > 0.0, 0, count + 1)
        counts[t] = count
    return counts

"""The likelihood of data under a kernel density of samples, by which adversarial networks were first judged.

Breuleux, Bengio, Vincent 2011; Goodfellow et al. 2014, section 5. Blurred samples can do well too, so it says little
alone.
"""

import numpy as np
from scipy.optimize import minimize_scalar


def log_likelihood(samples: np.ndarray, data: np.ndarray, deviation: float, chunk: int = 500) -> np.ndarray:
    """ln 1/N Σ_i N(x; s_i, deviation² I) of each row x of data [M, D] under samples [N, D]: float64 [M], nats."""
    samples, data = samples.astype(np.float32), data.astype(np.float32)
    squares = np.square(samples).sum(1)
    constant = np.log(len(samples)) + 0.5 * samples.shape[1] * np.log(2.0 * np.pi * deviation**2)
    found = []
    for start in range(0, len(data), chunk):
        x = data[start : start + chunk]
        distances = (np.square(x).sum(1)[:, None] + squares - 2.0 * x @ samples.T).astype(np.float64)
        exponents = -0.5 * np.maximum(distances, 0.0) / deviation**2
        most = exponents.max(1, keepdims=True)
        found.append(most[:, 0] + np.log(np.exp(exponents - most).sum(1)) - constant)
    return np.concatenate(found)


def best_deviation(samples: np.ndarray, data: np.ndarray, low: float = 0.03, high: float = 1.0) -> float:
    """The deviation in [low, high], to a hundredth of itself, that makes data [M, D] likeliest; not the test data."""

    def loss(logarithm: float) -> float:
        return -float(log_likelihood(samples, data, np.exp(logarithm)).mean())

    found = minimize_scalar(loss, bounds=(np.log(low), np.log(high)), method="bounded", options={"xatol": 0.01})
    return float(np.exp(found.x))

"""Mean and variance of a stream of rows, of parts of it that are merged exactly. NumPy, float64."""

from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
    """The moments of N rows of F numbers."""

    rows: np.ndarray  # float64 [], N
    mean: np.ndarray  # float64 [F]
    squares: np.ndarray  # float64 [F], Σ (x − mean)²

    @property
    def deviation(self) -> np.ndarray:
        """The standard deviation of the rows, float64 [F]; 0 without rows."""
        return np.sqrt(self.squares / np.maximum(self.rows, 1.0))


def empty(features: int) -> Moments:
    """The moments of no rows."""
    return Moments(np.zeros(()), np.zeros(features), np.zeros(features))


def of_rows(rows: np.ndarray) -> Moments:
    """The moments of rows [N, F], two passes; N may be 0."""
    rows = np.asarray(rows, np.float64)
    if not len(rows):
        return empty(rows.shape[1])
    mean = rows.mean(axis=0)
    return Moments(np.array(float(len(rows))), mean, np.square(rows - mean).sum(axis=0))


def merge(first: Moments, second: Moments) -> Moments:
    """The moments of both streams together (Chan, Golub and LeVeque 1983, equations 1.5)."""
    rows = first.rows + second.rows
    if not rows:
        return first
    shift = second.mean - first.mean
    share = second.rows / rows
    return Moments(
        rows, first.mean + shift * share, first.squares + second.squares + np.square(shift) * first.rows * share
    )

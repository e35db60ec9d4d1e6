"""Initial weights. Every layer takes its seed from one explicit stream, so that a seed fixes all parameters."""

from collections.abc import Iterator

import keras
import numpy as np


def seed_stream(seed: int) -> Iterator[int]:
    """An endless stream of seeds for initializers, each in [0, 2^31)."""
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(2**31))


def orthogonal(gain: float, seeds: Iterator[int]) -> keras.initializers.Initializer:
    """Orthogonal matrices times `gain` (Saxe et al. 2013); √2 keeps the variance through a rectifier."""
    return keras.initializers.Orthogonal(gain, seed=next(seeds))

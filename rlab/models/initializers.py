"""Initial weights. Every layer takes its seed from one explicit stream, so that a seed fixes all parameters."""

import math
from collections.abc import Callable, Iterator

import keras
import numpy as np

# Makes the initializer of one layer, of a given gain, from the stream of seeds.
MakeInitializer = Callable[[float, Iterator[int]], keras.initializers.Initializer]

RECTIFIER_GAIN = math.sqrt(2.0)  # keeps the variance of activations through a rectifier (He et al. 2015)


def seed_stream(seed: int) -> Iterator[int]:
    """An endless stream of seeds for initializers, each in [0, 2^31)."""
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(2**31))


def orthogonal(gain: float, seeds: Iterator[int]) -> keras.initializers.Initializer:
    """Orthogonal matrices times `gain` (Saxe et al. 2013)."""
    return keras.initializers.Orthogonal(gain, seed=next(seeds))


def truncated_normal(gain: float, seeds: Iterator[int]) -> keras.initializers.Initializer:
    """Normal numbers of variance gain²/fan-in, drawn again beyond two deviations (LeCun et al. 1998, section 4.6)."""
    return keras.initializers.VarianceScaling(gain**2, "fan_in", "truncated_normal", seed=next(seeds))


INITIALIZERS: dict[str, MakeInitializer] = {"orthogonal": orthogonal, "truncated_normal": truncated_normal}

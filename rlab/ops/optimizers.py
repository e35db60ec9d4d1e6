"""Optimizers: one on flat NumPy vectors that several threads share, updated in place, and those of Keras by name.

The first is NumPy and not TensorFlow because the update must happen *in* the shared memory: NumPy's in-place operations
release the interpreter lock and write where the other threads read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rlab.errors import BadInputError, nearest

if TYPE_CHECKING:
    import keras

_WRAPPERS = ("Optimizer", "LossScaleOptimizer", "MultiOptimizer")  # of other optimizers
# Elements to a slice: four float32 slices of this size stay in a core's second-level cache between passes.
_SLICE = 32_768


def rmsprop_update(
    parameters: np.ndarray,
    mean_square: np.ndarray,
    gradient: np.ndarray,
    learning_rate: float,
    decay: float,
    epsilon: float,
) -> None:
    """One step of the RMSProp of Mnih et al. 2016, equations S2 and S3, in place.

    g ← αg + (1 − α)Δθ²,  θ ← θ − η Δθ / √(g + ε). The epsilon stands inside the root, as in the paper and unlike
    most libraries. `parameters` θ, `mean_square` g and `gradient` Δθ are float32 [D]; `decay` is α. There is no
    lock: two threads may interleave, and lose a little of one another's update, as the paper's do.
    """
    for start in range(0, parameters.size, _SLICE):
        part = slice(start, start + _SLICE)
        delta, square = gradient[part], mean_square[part]
        square *= decay
        square += (1.0 - decay) * np.square(delta)
        parameters[part] -= learning_rate * delta / np.sqrt(square + epsilon)


def keras_optimizer(name: str) -> keras.Optimizer:
    """The optimizer of Keras that has this name, in any case; raises BadInputError where none has."""
    import keras

    kinds = {
        found: kind
        for found, kind in vars(keras.optimizers).items()
        if isinstance(kind, type) and issubclass(kind, keras.optimizers.Optimizer) and found not in _WRAPPERS
    }
    by_lower = {found.lower(): kind for found, kind in kinds.items()}
    if name.lower() not in by_lower:
        raise BadInputError(f"--optimizer cannot be {name!r}{nearest(name, kinds)}")
    return by_lower[name.lower()]()

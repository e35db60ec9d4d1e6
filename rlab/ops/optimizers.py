"""Optimizers on flat NumPy vectors that several threads share, updated in place.

They are NumPy and not TensorFlow because the update must happen *in* the shared memory: NumPy's in-place operations
release the interpreter lock and write where the other threads read.
"""

import numpy as np

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

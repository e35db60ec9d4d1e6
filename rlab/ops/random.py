"""Random numbers that depend on their seed alone: the same by XLA and in a graph, up to rounding.

TensorFlow's own have the same 32 bits of a counter both ways (Philox: Salmon et al. 2011, "Parallel random numbers: as
easy as 1, 2, 3"), and make other numbers of them: its kernels of the low bits, XLA of the high ones. These are XLA's.
"""

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def uniform(shape: Any, seed: tf.Tensor) -> tf.Tensor:
    """Uniform numbers in [0, 1), multiples of 2⁻²³, float32 [shape]; `seed` is int32 [2]."""
    bits = tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox")
    return tf.cast(tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32)), tf.float32) * 2.0**-23


def normal(shape: Sequence[int], seed: tf.Tensor) -> tf.Tensor:
    """Normal numbers of mean 0 and variance 1, float32 [shape], in pairs (Box and Muller 1958); `seed` is int32 [2]."""
    # Pairs lie along the first even axis; without one, along the longest, and of the last pair one is left out.
    sizes = [int(size) for size in shape]
    axis = next((i for i, size in enumerate(sizes) if size % 2 == 0), sizes.index(max(sizes)))
    pairs = (sizes[axis] + 1) // 2
    u = uniform([*sizes[:axis], pairs, 2, *sizes[axis + 1 :]], seed)
    first, second = tf.unstack(u, axis=axis + 1)
    angle, radius = 2.0 * math.pi * second, tf.sqrt(-2.0 * tf.math.log(tf.maximum(first, 1e-7)))
    found = tf.stack([tf.sin(angle) * radius, tf.cos(angle) * radius], axis + 1)
    found = tf.reshape(found, [*sizes[:axis], 2 * pairs, *sizes[axis + 1 :]])
    return found if 2 * pairs == sizes[axis] else tf.gather(found, tf.range(sizes[axis]), axis=axis)

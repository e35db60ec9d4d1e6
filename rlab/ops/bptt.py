"""Backpropagation through whole sequences, a chunk of time at a time."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

# (params [D], state before the chunk, the chunk's arrays [C, ...]) -> (loss, metrics [M], state after the chunk)
ChunkLoss = Callable[[tf.Tensor, Any, Any], tuple[tf.Tensor, tf.Tensor, Any]]
# (params [D], states before each chunk, chunks, truncation in chunks) -> (gradient [D], metrics [M])
Gradient = Callable[[tf.Tensor, Sequence[Any], Sequence[Any], int], tuple[tf.Tensor, tf.Tensor]]


def compile_gradient(loss: ChunkLoss, metrics: int) -> Gradient:
    """The exact gradient of a loss summed over time, compiled for one chunk whatever the length of the sequences.

    Each chunk is run from the state before it, from the last to the first, and hands the gradient with respect to that
    state back to the chunk before (gradient checkpointing: Chen et al. 2016, "Training deep nets with sublinear memory
    cost"). XLA compiles one shape in place of one for every length, nothing is padded beyond a chunk, and memory grows
    with the states between chunks alone.

    A truncation of n > 0 lets no gradient flow past every n-th border between chunks (Williams and Peng 1990); 0 none.
    """

    @tf.function(jit_compile=True, autograph=False)
    def backward(params: tf.Tensor, state: Any, chunk: Any, after: Any, gradient: tf.Tensor, sums: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch((params, state))
            total, measured, end = loss(params, state, chunk)
            for part, upstream in zip(tf.nest.flatten(end), tf.nest.flatten(after), strict=True):
                total += tf.reduce_sum(part * upstream)
        change, before = tape.gradient(total, (params, state), unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return gradient + change, before, sums + measured

    def gradient(
        params: tf.Tensor, states: Sequence[Any], chunks: Sequence[Any], truncation: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        nothing = tf.nest.map_structure(tf.zeros_like, states[0])
        total, measured, after = tf.zeros_like(params), tf.zeros(metrics), nothing
        for number in reversed(range(len(chunks))):
            if truncation and (number + 1) % truncation == 0:
                after = nothing
            total, after, measured = backward(params, states[number], chunks[number], after, total, measured)
        return total, measured

    return gradient


def split(sequences: Any, length: int) -> list[Any]:
    """A NamedTuple of arrays [T, ...] as T/length of them, each of `length` steps."""
    time = len(sequences[0])
    return [type(sequences)(*(part[start : start + length] for part in sequences)) for start in range(0, time, length)]

"""Layers over images whose outputs see earlier pixels only, row by row and from left to right.

Van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel recurrent neural networks", 2016: masked convolutions (section 3.4) and
the Row LSTM (3.1); the Diagonal BiLSTM (3.2) is in `pixelrnn_diagonal.py`. All map float32 [N, H, W, F] to
[N, H, W, units].

Each layer can also go through an image pixel by pixel, as sampling must, without ever computing anything twice. What it
needs of the rows above is its `memory`; of its own row, what lies to the left, its `carry`. A row is `[W, N, ...]`:

    above(memory)                 what the rows above bring to each pixel of the next row, a nest of [W, N, ...]
    pixel(carry, x, above[j])     the output [N, units] at a pixel with input x [N, F]; the next carry; what to keep
    below(memory, kept, row)      the memory for the next row, of what was kept of this one and its pixels [W, N, 1]
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
import tensorflow as tf

from rlab.models.initializers import orthogonal
from rlab.models.recurrent import unroll


class Cells(NamedTuple):
    """Outputs and cells of LSTMs at some pixels, [..., units] each."""

    output: tf.Tensor  # h
    cell: tf.Tensor  # c


class Causal(Protocol):
    """The interface of each layer in a network of these."""

    units: int

    def __call__(self, inputs: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        """The whole image at once; `images` [N, H, W, 1] are the pixels themselves."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights."""

    def initial_memory(self, count: int, width: int) -> Any:
        """The memory before the first row, for `count` images of this width."""

    def initial_carry(self, count: int) -> Any:
        """The carry before the first pixel of a row, for `count` images."""

    def above(self, memory: Any) -> Any:
        """The contribution of the rows above to each pixel of the next row; see the module."""

    def pixel(self, carry: Any, x: tf.Tensor, above: Any) -> tuple[tf.Tensor, Any, Any]:
        """The output at a pixel, the next carry, and what to keep of the pixel; see the module."""

    def below(self, memory: Any, kept: Any, row: tf.Tensor) -> Any:
        """The memory for the next row; see the module."""


class MaskedConvolution(keras.layers.Layer):
    """A k×k convolution that sees the rows above and of its own row what is to the left, with the pixel itself or not.

    Mask A leaves the pixel out, as the first layer must; mask B takes it in. The rows that the paper's mask would hide
    are not there: the kernel is [⌈k/2⌉, k, F, units], and the mask hides the rest of its last row.
    """

    def __init__(self, units: int, size: int, mask: str, seeds: Iterator[int], gain: float = 1.0, name: str = "conv"):
        super().__init__(name=name)
        if mask not in ("A", "B") or size % 2 == 0:
            raise ValueError(f"a mask is A or B and a size odd, not {mask!r} and {size}")
        self.units, self.size, self.mask = units, size, mask
        self._initializer = orthogonal(gain, seeds)
        self._reach = size // 2

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (self._reach + 1, self.size, input_shape[-1], self.units)
        self.kernel = self.add_weight(shape=shape, initializer=self._initializer, name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        seen = np.ones((self._reach + 1, self.size, 1, 1), np.float32)
        seen[-1, self._reach + (self.mask == "B") :] = 0.0
        self._seen = seen
        self._features = input_shape[-1]
        self.built = True

    def call(self, inputs: tf.Tensor, images: tf.Tensor | None = None) -> tf.Tensor:
        k = self._reach
        padded = tf.pad(inputs, ((0, 0), (k, 0), (k, k), (0, 0)))
        return tf.nn.conv2d(padded, self.kernel * self._seen, 1, "VALID") + self.bias

    def initial_memory(self, count: int, width: int) -> tf.Tensor:
        """The inputs of the last ⌊k/2⌋ rows, [k/2, W, N, F]."""
        return tf.zeros((self._reach, width, count, self._features))

    def initial_carry(self, count: int) -> tf.Tensor:
        """The last ⌊k/2⌋ inputs of the row, [N, k/2, F]."""
        return tf.zeros((count, self._reach, self._features))

    def above(self, memory: tf.Tensor) -> tf.Tensor:
        rows, width, count, _ = memory.shape
        if not rows:
            return tf.zeros((width, count, self.units)) + self.bias
        padded = tf.pad(memory, ((0, 0), (self._reach, self._reach), (0, 0), (0, 0)))
        found = tf.nn.conv2d(tf.transpose(padded, (2, 0, 1, 3)), self.kernel[:-1], 1, "VALID")
        return tf.transpose(found[:, 0], (1, 0, 2)) + self.bias

    def before(self, carry: tf.Tensor, above: tf.Tensor) -> tf.Tensor:
        """The contribution of all pixels before it to a pixel's output, [N, units]: of mask A, the whole output."""
        return above + tf.tensordot(carry, self.kernel[-1, : self._reach], 2)

    def moved(self, carry: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """The carry for the next pixel."""
        return tf.concat([carry, x[:, None]], 1)[:, 1:]

    def pixel(self, carry: tf.Tensor, x: tf.Tensor, above: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        output = self.before(carry, above)
        if self.mask == "B":
            output += tf.matmul(x, self.kernel[-1, self._reach])
        return output, self.moved(carry, x), x

    def below(self, memory: tf.Tensor, kept: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
        return tf.concat([memory, kept[None]], 0)[1:]


class RowLSTM(keras.layers.Layer):
    """An LSTM that walks down the rows, a whole row at a time: equation 3, with kernels of three pixels.

    [o, f, i, g] = K_ss ∗ h_{i−1} + K_is ∗ x_i, where K_is has mask B; c_i = σ(f) c_{i−1} + σ(i) tanh(g) and
    h_i = σ(o) tanh(c_i). A pixel sees the triangle above it.
    """

    def __init__(self, units: int, seeds: Iterator[int], name: str = "row_lstm") -> None:
        super().__init__(name=name)
        self.units = units
        self._initializers = orthogonal(1.0, seeds), orthogonal(1.0, seeds)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        features = input_shape[-1] or 0
        shapes = (2 * features, 4 * self.units), (3 * self.units, 4 * self.units)
        self.kernel, self.recurrent = (
            self.add_weight(shape=shape, initializer=start, name=name)
            for shape, start, name in zip(shapes, self._initializers, ("kernel", "recurrent"), strict=True)
        )
        self.bias = self.add_weight(shape=(4 * self.units,), initializer=forget_bias, name="bias")
        self._features = features
        self.built = True

    def call(self, inputs: tf.Tensor, images: tf.Tensor | None = None) -> tf.Tensor:
        width = inputs.shape[2]
        left = tf.pad(inputs, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1]
        z = tf.tensordot(tf.concat([left, inputs], -1), self.kernel, 1) + self.bias
        rows = tf.transpose(z, (1, 2, 0, 3))  # [H, W, N, 4·units]

        def step(state: Cells, projected: tf.Tensor) -> tuple[tf.Tensor, Cells]:
            state = lstm(projected + self._see(state.output), state.cell)
            return state.output, state

        begin = self.initial_memory(inputs.shape[0], width)
        outputs, _ = unroll(step, (rows,), begin, tf.TensorSpec((width, inputs.shape[0], self.units)))
        return tf.transpose(outputs, (2, 0, 1, 3))

    def _see(self, row: tf.Tensor) -> tf.Tensor:
        """K_ss ∗ h of the row above, [W, N, 4·units]."""
        width = row.shape[0]
        padded = tf.pad(row, ((1, 1), (0, 0), (0, 0)))
        return tf.tensordot(tf.concat([padded[i : i + width] for i in range(3)], -1), self.recurrent, 1)

    def initial_memory(self, count: int, width: int) -> Cells:
        zeros = tf.zeros((width, count, self.units))
        return Cells(zeros, zeros)

    def initial_carry(self, count: int) -> tf.Tensor:
        """The input to the left, [N, F]."""
        return tf.zeros((count, self._features))

    def above(self, memory: Cells) -> tuple[tf.Tensor, tf.Tensor]:
        return self._see(memory.output), memory.cell

    def pixel(self, carry: tf.Tensor, x: tf.Tensor, above: Any) -> tuple[tf.Tensor, tf.Tensor, Cells]:
        z = tf.matmul(tf.concat([carry, x], -1), tf.convert_to_tensor(self.kernel)) + self.bias
        cells = lstm(z + above[0], above[1])
        return cells.output, x, cells

    def below(self, memory: Cells, kept: Cells, row: tf.Tensor) -> Cells:
        return kept


def lstm(z: tf.Tensor, cell: tf.Tensor) -> Cells:
    """The gates' sums z [..., 4·units], in the order o, f, i, g, and the cell before to output and cell."""
    o, f, i, g = tf.split(z, 4, -1)
    cell = tf.sigmoid(f) * cell + tf.sigmoid(i) * tf.tanh(g)
    return Cells(tf.sigmoid(o) * tf.tanh(cell), cell)


def forget_bias(shape: tuple[int, ...], dtype: str | None = None) -> tf.Tensor:
    """The initial biases of gates in the order o, f, i, g: 1 for f, so that forget gates start open, else 0."""
    return tf.repeat(tf.constant([0.0, 1.0, 0.0, 0.0], dtype or "float32"), shape[-1] // 4)

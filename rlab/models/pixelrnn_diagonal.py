"""The Diagonal BiLSTM (van den Oord et al. 2016, section 3.2), skewed: each diagonal is one step of two LSTMs."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rlab.models.initializers import orthogonal
from rlab.models.pixelrnn_layers import Cells, forget_bias, lstm
from rlab.models.recurrent import unroll

_TRAIN = 8  # images that follow one another, so that few places of a skewed image are empty


class DiagonalBiLSTM(keras.layers.Layer):
    """Two LSTMs that walk along the diagonals, one from each upper corner; their outputs are added.

    At each pixel an LSTM sees the input there and its own outputs at the pixel it comes from and at the one above:
    [o, f, i, g] = K_is x + K_ss (h_beside, h_above), with the cell of the pixel beside. What comes from the right is
    moved down by a row, so that it sees no later pixel. Unlike the paper's, it is also given each pixel itself, which
    the row below may see: else no row's last pixel would reach the beginning of the next. So each sees all before it.

    Maps float32 [N, H, W, F] and the pixels [N, H, W, 1] to [N, H, W, units]; `rlab/models/pixelrnn_layers.py` says how
    it goes through an image pixel by pixel.
    """

    def __init__(self, units: int, seeds: Iterator[int], name: str = "diagonal_bilstm") -> None:
        super().__init__(name=name)
        self.units = units
        self._initializers = orthogonal(1.0, seeds), orthogonal(1.0, seeds), orthogonal(1.0, seeds)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        features, units = input_shape[-1], self.units

        def both(start: keras.initializers.Initializer) -> Any:
            """An initializer for both directions: the halves of one orthogonal matrix."""
            return lambda shape, dtype=None: tf.stack(tf.split(start((shape[1], 2 * shape[2]), dtype), 2, -1))

        def biases(shape: tuple[int, ...], dtype: str | None = None) -> tf.Tensor:
            return tf.stack([forget_bias(shape[1:], dtype)] * 2)

        *starts, pixel_init = self._initializers
        input_init, recurrent_init = map(both, starts)
        self.kernel = self.add_weight(shape=(2, features, 4 * units), initializer=input_init, name="kernel")
        self.recurrent = self.add_weight(shape=(2, 2 * units, 4 * units), initializer=recurrent_init, name="recurrent")
        self.bias = self.add_weight(shape=(2, 4 * units), initializer=biases, name="bias")
        self.pixel_kernel = self.add_weight(shape=(1, 4 * units), initializer=pixel_init, name="pixel")
        self.built = True

    def call(self, inputs: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        left = self._walk(inputs, self.kernel[0], 0)
        told = tf.concat([inputs, images], -1)[:, :, ::-1]
        right = self._walk(told, tf.concat([self.kernel[1], tf.convert_to_tensor(self.pixel_kernel)], 0), 1)
        return left + tf.pad(right[:, :-1, ::-1], ((0, 0), (1, 0), (0, 0), (0, 0)))

    def _walk(self, inputs: tf.Tensor, kernel: tf.Tensor, direction: int) -> tf.Tensor:
        """One LSTM from the left: [N, H, W, F] to [N, H, W, units].

        The images are cut into lanes, in each of which they stand side by side and are walked through as one.
        """
        count, height, width, features = inputs.shape
        train = max(size for size in range(1, _TRAIN + 1) if count % size == 0)
        lanes = count // train
        beside = tf.transpose(tf.reshape(inputs, (lanes, train, height, width, features)), (0, 2, 1, 3, 4))
        skewed = skew(tf.reshape(beside, (lanes, height, train * width, features)))
        steps = skewed.shape[2]
        rows = tf.reshape(tf.transpose(skewed, (2, 1, 0, 3)), (steps, height * lanes, features))
        z = tf.tensordot(rows, kernel, 1) + self.bias[direction]
        columns = np.arange(steps)[:, None] - np.arange(height)
        goes_on = np.repeat((columns % width != 0).astype(np.float32), lanes, 1)[..., None]
        outputs = diagonal_lstm(z, self.recurrent[direction], tf.constant(goes_on), lanes)
        outputs = tf.transpose(tf.reshape(outputs, (steps, height, lanes, self.units)), (2, 1, 0, 3))
        outputs = tf.reshape(unskew(outputs), (lanes, height, train, width, self.units))
        return tf.reshape(tf.transpose(outputs, (0, 2, 1, 3, 4)), (count, height, width, self.units))

    def initial_memory(self, count: int, width: int) -> Any:
        """Outputs of the row above from the left and from the right, [W, N, units] each."""
        zeros = tf.zeros((width, count, self.units))
        return zeros, zeros

    def initial_carry(self, count: int) -> Cells:
        zeros = tf.zeros((count, self.units))
        return Cells(zeros, zeros)

    def above(self, memory: Any) -> Any:
        left, right = memory
        return tf.tensordot(left, self.recurrent[0, self.units :], 1), right

    def pixel(self, carry: Cells, x: tf.Tensor, above: Any) -> tuple[tf.Tensor, Cells, Any]:
        cells = self._beside(0, carry, x, above[0])
        return cells.output + above[1], cells, (cells.output, x)

    def below(self, memory: Any, kept: Any, row: tf.Tensor) -> Any:
        """Run the other LSTM through the row, now complete, from the right; returns the memory for the next row."""
        left, x = kept
        above = tf.tensordot(memory[1], self.recurrent[1, self.units :], 1)
        above += tf.tensordot(row, self.pixel_kernel, 1)

        def step(state: Cells, x: tf.Tensor, above: tf.Tensor) -> tuple[tf.Tensor, Cells]:
            state = self._beside(1, state, x, above)
            return state.output, state

        begin = self.initial_carry(x.shape[1])
        right, _ = unroll(step, (x[::-1], above[::-1]), begin, tf.TensorSpec(begin.output.shape))
        return left, right[::-1]

    def _beside(self, direction: int, state: Cells, x: tf.Tensor, above: tf.Tensor) -> Cells:
        """One LSTM at a pixel, from its state at the pixel beside and what comes from above."""
        z = above + tf.matmul(x, self.kernel[direction]) + self.bias[direction]
        return lstm(z + tf.matmul(state.output, self.recurrent[direction, : self.units]), state.cell)


def diagonal_lstm(z: tf.Tensor, recurrent: tf.Tensor, goes_on: tf.Tensor, lanes: int) -> tf.Tensor:
    """The outputs h [S, R, units] of an LSTM over diagonals, of its inputs' gate sums z [S, R, 4·units].

    The R rows of a diagonal are the image's H rows with `lanes` images each. With v = 1 where the row `goes_on`
    [S, R, 1], and 0 where an image begins,

        [o, f, i, g] = z_t + [v h_{t−1}, above(h_{t−1})] K,  c_t = σ(f) v c_{t−1} + σ(i) tanh(g),  h_t = σ(o) tanh(c_t),

    where above(h) is h moved down by a row. `recurrent` is K, [2·units, 4·units]. The gradient is written out: it keeps
    h and c alone and computes the gates again, in a third less time than TensorFlow's own, which keeps every part.
    """

    @tf.custom_gradient
    def walk(z: tf.Tensor, recurrent: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        zeros = tf.zeros((z.shape[1], z.shape[2] // 4))
        spec = tf.TensorSpec(zeros.shape)

        def see(h: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
            return tf.concat([v * h, tf.pad(h, ((lanes, 0), (0, 0)))[: h.shape[0]]], -1)

        def step(state: Cells, z: tf.Tensor, v: tf.Tensor) -> tuple[Cells, Cells]:
            state = lstm(z + tf.matmul(see(state.output, v), recurrent), v * state.cell)
            return state, state

        (h, c), _ = unroll(step, (z, goes_on), Cells(zeros, zeros), Cells(spec, spec))

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            h_before, c_before = (tf.concat([zeros[None], part[:-1]], 0) for part in (h, c))

            def back(later: Cells, z: Any, v: Any, h: Any, c: Any, c_after: Any, dh: Any) -> tuple[tf.Tensor, Cells]:
                o, f, i, g = tf.split(z + tf.matmul(see(h, v), recurrent), 4, -1)
                o, f, i, g = tf.sigmoid(o), tf.sigmoid(f), tf.sigmoid(i), tf.tanh(g)
                squashed = tf.tanh(c_after)
                dh = dh + later.output
                dc = later.cell + dh * o * (1.0 - squashed * squashed)
                dz = tf.concat(
                    [
                        dh * squashed * o * (1.0 - o),
                        dc * v * c * f * (1.0 - f),
                        dc * g * i * (1.0 - i),
                        dc * i * (1.0 - g * g),
                    ],
                    -1,
                )
                beside, above = tf.split(tf.matmul(dz, recurrent, transpose_b=True), 2, -1)
                up = tf.pad(above, ((0, lanes), (0, 0)))[lanes:]
                return dz, Cells(v * beside + up, v * f * dc)

            steps = tuple(part[::-1] for part in (z, goes_on, h_before, c_before, c, upstream))
            dz, _ = unroll(back, steps, Cells(zeros, zeros), tf.TensorSpec(z.shape[1:]))
            dz = dz[::-1]
            above = tf.pad(h_before, ((0, 0), (lanes, 0), (0, 0)))[:, : h.shape[1]]
            seen = tf.reshape(tf.concat([goes_on * h_before, above], -1), (-1, recurrent.shape[0]))
            return dz, tf.matmul(seen, tf.reshape(dz, (-1, recurrent.shape[1])), transpose_a=True)

        return h, gradient

    return walk(z, recurrent)


def skew(images: tf.Tensor) -> tf.Tensor:
    """[N, H, W, F] to [N, H, W + H − 1, F]: row i is moved i pixels to the right, zeros are moved in."""
    _, height, width, features = images.shape
    padded = tf.pad(images, ((0, 0), (0, 0), (0, height), (0, 0)))
    # Read on in rows one shorter, each row begins one pixel later than the one before.
    flat = tf.reshape(padded, (-1, height * (width + height), features))[:, :-height]
    return tf.reshape(flat, (-1, height, width + height - 1, features))


def unskew(images: tf.Tensor) -> tf.Tensor:
    """The inverse of `skew`: [N, H, S, F] to [N, H, S − H + 1, F]."""
    _, height, diagonals, features = images.shape
    flat = tf.pad(tf.reshape(images, (-1, height * diagonals, features)), ((0, 0), (0, height), (0, 0)))
    return tf.reshape(flat, (-1, height, diagonals + 1, features))[:, :, : diagonals - height + 1]

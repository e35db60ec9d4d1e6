"""PixelRNN and PixelCNN: the probability of an image as a product over its pixels, each given those before it.

Van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel recurrent neural networks", 2016. The layers are in
`rlab/models/pixelrnn_layers.py` and `pixelrnn_diagonal.py`. Images are float32 [N, H, W] with the values 0, 1/(L−1), …
1 for L levels; L is 2 or up to 256.
"""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from rlab.models.initializers import RECTIFIER_GAIN, orthogonal
from rlab.models.pixelrnn_diagonal import DiagonalBiLSTM
from rlab.models.pixelrnn_layers import Causal, MaskedConvolution, RowLSTM
from rlab.models.recurrent import unroll

KINDS = ("diagonal-bilstm", "row-lstm", "pixelcnn")


class PixelRNN(keras.Model):
    """p(x|θ) = Π_j p(x_j | x_{<j}), table 1: a 7×7 convolution with mask A, `depth` residual blocks, two 1×1 layers.

    Maps images [N, H, W] to logits: of the value 1 [N, H, W] where L is 2, else of each value [N, H, W, L].

    Args:
        kind: of `KINDS`, what the blocks are made of.
        units: h of the blocks' layers; between the blocks there are 2h features.
        depth: blocks.
        levels: L.
        seeds: one seed to each initializer.
        hidden: units of the last layer but one.
    """

    def __init__(self, kind: str, units: int, depth: int, levels: int, seeds: Iterator[int], hidden: int = 64) -> None:
        super().__init__(name="pixelrnn")
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
        self.units, self.levels = units, levels
        self.first = MaskedConvolution(2 * units, 7, "A", seeds, name="first")
        self.blocks = [Block(kind, units, seeds, name=f"block_{i}") for i in range(depth)]
        kernel = lambda gain: orthogonal(gain, seeds)  # noqa: E731
        self.hidden = keras.layers.Dense(hidden, "relu", kernel_initializer=kernel(RECTIFIER_GAIN), name="hidden")
        outputs = 1 if levels == 2 else levels
        self.output_layer = keras.layers.Dense(outputs, kernel_initializer=kernel(0.1), name="output")

    def build(self, *_: object) -> None:
        self.first.build((None, None, None, 1))
        for block in self.blocks:
            block.build((None, None, None, 2 * self.units))
        self.hidden.build((None, 2 * self.units))
        self.output_layer.build((None, self.hidden.units))
        self.built = True

    def call(self, images: tf.Tensor) -> tf.Tensor:
        pixels = images[..., None]
        features = self.first(pixels)
        for block in self.blocks:
            features = block(features, pixels)
        return self._head(features)

    def _head(self, features: tf.Tensor) -> tf.Tensor:
        logits = self.output_layer(self.hidden(tf.nn.relu(features)))
        return logits[..., 0] if self.levels == 2 else logits

    def log_prob(self, images: tf.Tensor) -> tf.Tensor:
        """ln p(x) of each image, [N], nats."""
        return tf.reduce_sum(self.pixel_log_probs(images), (1, 2))

    def pixel_log_probs(self, images: tf.Tensor) -> tf.Tensor:
        """ln p(x_j | x_{<j}) of each pixel, [N, H, W], nats."""
        logits = self(images)
        if self.levels == 2:
            return images * logits - tf.nn.softplus(logits)
        values = tf.cast(tf.round(images * (self.levels - 1)), tf.int32)
        return -tf.nn.sparse_softmax_cross_entropy_with_logits(values, logits)

    def complete(self, images: tf.Tensor, known: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Images [N, H, W] whose pixels are kept where known [H, W] is not 0, and drawn where it is.

        With nothing known, samples of p(x). `seed` is int32 [2]; the same seed gives the same images. Every pixel's
        features are computed once, from what its neighbours left behind.
        """
        count, height, width = images.shape
        shape = (height, width, count, *([] if self.levels == 2 else [self.levels]))
        uniform = tf.random.stateless_uniform(shape, seed, minval=1e-30)
        noise = (
            tf.math.log(uniform) - tf.math.log1p(-uniform) if self.levels == 2 else -tf.math.log(-tf.math.log(uniform))
        )
        layers: list[Any] = [self.first, *self.blocks]

        def row(memory: list, given: tf.Tensor, known: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, list]:
            above = [layer.above(part) for layer, part in zip(layers, memory, strict=True)]
            begin = [layer.initial_carry(count) for layer in layers]
            steps = (above, given, known, noise)
            first, _ = self._pixel(begin, *tf.nest.map_structure(lambda part: part[0], steps))  # for its shapes alone
            kept, _ = unroll(self._pixel, steps, begin, tf.nest.map_structure(tf.TensorSpec.from_tensor, first))
            after = [layer.below(*parts, kept[0]) for layer, *parts in zip(layers, memory, kept, strict=True)]
            return kept[0][..., 0], after

        memory = [layer.initial_memory(count, width) for layer in layers]
        rows = tf.transpose(images, (1, 2, 0)), tf.cast(known, tf.float32), noise
        drawn, _ = unroll(row, rows, memory, tf.TensorSpec((width, count)))
        return tf.transpose(drawn, (2, 0, 1))

    def _pixel(self, carry: list, above: list, given: tf.Tensor, known: tf.Tensor, noise: tf.Tensor) -> tuple:
        """One pixel of all images, drawn or taken as given: what the layers keep of it, and their next carries."""
        features, kept, after = self.first.before(carry[0], above[0]), [], []
        for block, *parts in zip(self.blocks, carry[1:], above[1:], strict=True):
            features, moved, left = block.pixel(parts[0], features, parts[1])
            kept.append(left)
            after.append(moved)
        logits = self._head(features)
        if self.levels == 2:
            drawn = tf.cast(logits + noise > 0.0, tf.float32)
        else:
            drawn = tf.cast(tf.argmax(logits + noise, -1), tf.float32) / (self.levels - 1)
        value = tf.where(known != 0.0, given, drawn)[:, None]
        return [value, *kept], [self.first.moved(carry[0], value), *after]


class Block(keras.layers.Layer):
    """A residual block (figure 5): one causal layer of h units between 2h features, which it adds to.

    An LSTM takes the features as they are; a 3×3 convolution (mask B) has rectifiers and a 1×1 layer before it.
    """

    def __init__(self, kind: str, units: int, seeds: Iterator[int], name: str) -> None:
        super().__init__(name=name)
        self.narrow = None
        self.layer: Causal
        if kind == "pixelcnn":
            start = orthogonal(RECTIFIER_GAIN, seeds)
            self.narrow = keras.layers.Dense(units, kernel_initializer=start, name="narrow")
            self.layer = MaskedConvolution(units, 3, "B", seeds, RECTIFIER_GAIN)
        else:
            self.layer = RowLSTM(units, seeds) if kind == "row-lstm" else DiagonalBiLSTM(units, seeds)
        self.widen = keras.layers.Dense(2 * units, kernel_initializer=orthogonal(1.0, seeds), name="widen")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if self.narrow:
            self.narrow.build(input_shape)
        self.layer.build((*input_shape[:-1], self.narrow.units if self.narrow else input_shape[-1]))
        self.widen.build((*input_shape[:-1], self.layer.units))
        self.built = True

    def call(self, inputs: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        return self._around(inputs, lambda features: self.layer(features, images))

    def _around(self, inputs: tf.Tensor, through: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        if self.narrow is None:
            return inputs + self.widen(through(inputs))
        narrowed = tf.nn.relu(self.narrow(tf.nn.relu(inputs)))
        return inputs + self.widen(tf.nn.relu(through(narrowed)))

    # Pixel by pixel it remembers what its layer does.

    def initial_memory(self, count: int, width: int) -> Any:
        return self.layer.initial_memory(count, width)

    def initial_carry(self, count: int) -> Any:
        return self.layer.initial_carry(count)

    def above(self, memory: Any) -> Any:
        return self.layer.above(memory)

    def below(self, memory: Any, kept: Any, row: tf.Tensor) -> Any:
        return self.layer.below(memory, kept, row)

    def pixel(self, carry: Any, x: tf.Tensor, above: Any) -> tuple[tf.Tensor, Any, Any]:
        left: list[Any] = []

        def through(x: tf.Tensor) -> tf.Tensor:
            output, *others = self.layer.pixel(carry, x, above)
            left.extend(others)
            return output

        return self._around(x, through), *left

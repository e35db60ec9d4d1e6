"""Residual and highway layers, fully connected and convolutional, and deep stacks of them."""

from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from rlab.models.initializers import RECTIFIER_GAIN, orthogonal

KINDS = ("plain", "residual", "highway")


class Residual(keras.layers.Layer):
    """a^l = a^{l−1} + f(W a^{l−1} + b), where `transform` is f(W · + b) (after He et al. 2015, equation 1).

    Input and output have one shape, which the transform must keep.
    """

    def __init__(self, transform: keras.layers.Layer, name: str = "residual") -> None:
        super().__init__(name=name)
        self.transform = transform

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        _require_same_shape(self.transform, input_shape)
        self.transform.build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs + self.transform(inputs)


class Highway(keras.layers.Layer):
    """a^l = a^{l−1} ⊙ g + f(W a^{l−1} + b) ⊙ (1 − g), g = σ(W_g a^{l−1} + b_g) (Srivastava et al. 2015, equation 3).

    g carries; the paper's transform gate is T = 1 − g. `transform` is f(W · + b) and `gate` W_g · + b_g, both layers
    that keep the shape.
    """

    def __init__(self, transform: keras.layers.Layer, gate: keras.layers.Layer, name: str = "highway") -> None:
        super().__init__(name=name)
        self.transform, self.gate = transform, gate

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for layer in (self.transform, self.gate):
            _require_same_shape(layer, input_shape)
            layer.build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        carry = tf.sigmoid(self.gate(inputs))
        return inputs * carry + self.transform(inputs) * (1.0 - carry)


class DeepMLP(keras.layers.Layer):
    """A fully connected layer of `units`, then `depth` − 1 layers of one kind (`KINDS`) that keep that width.

    Maps float32 [N, F] to float32 [N, units].
    """

    def __init__(self, kind: str, units: int, depth: int, activation: str, seeds: Iterator[int]) -> None:
        super().__init__(name=f"{kind}_mlp")

        def dense(name: str, activation: str | None, gain: float, bias: float = 0.0) -> keras.layers.Layer:
            kernel, biases = orthogonal(gain, seeds), keras.initializers.Constant(bias)
            return keras.layers.Dense(units, activation, True, kernel, biases, name=name)

        self.layers = _stack(kind, depth, activation, dense)
        self.units = units

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        _build_stack(self.layers, input_shape, self.units)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs


class DeepCNN(keras.layers.Layer):
    """A 3×3 convolution of `filters`, then `depth` − 1 of one kind (`KINDS`), padded so that they keep the size.

    The image is halved by max-pooling after each of the first `pools` equal parts. Maps float32 [N, H, W, C] to float32
    [N, units], all pixels that are left.
    """

    def __init__(
        self, kind: str, filters: int, depth: int, activation: str, seeds: Iterator[int], pools: int = 2
    ) -> None:
        super().__init__(name=f"{kind}_cnn")

        def convolution(name: str, activation: str | None, gain: float, bias: float = 0.0) -> keras.layers.Layer:
            start = {
                "kernel_initializer": orthogonal(gain, seeds),
                "bias_initializer": keras.initializers.Constant(bias),
            }
            return keras.layers.Conv2D(filters, 3, padding="same", activation=activation, name=name, **start)

        self.layers = _stack(kind, depth, activation, convolution)
        part = max(1, depth // (pools + 1))
        self.pooled_after = {part * (i + 1) - 1 for i in range(min(pools, depth))}
        self.units = self.filters = filters

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        _build_stack(self.layers, input_shape, self.filters)
        height, width = (size or 0 for size in input_shape[1:3])
        for _ in self.pooled_after:
            if min(height, width) > 1:
                height, width = height // 2, width // 2
        self.units = height * width * self.filters

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        for i, layer in enumerate(self.layers):
            inputs = layer(inputs)
            if i in self.pooled_after and min(inputs.shape[1:3]) > 1:
                inputs = tf.nn.max_pool2d(inputs, 2, 2, "VALID")
        return tf.reshape(inputs, (-1, self.units))


def _stack(kind: str, depth: int, activation: str, make: Callable[..., keras.layers.Layer]) -> list[keras.layers.Layer]:
    """`depth` layers; `make(name, activation, gain, bias)` gives one linear map with its activation."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    if depth < 1:
        raise ValueError(f"depth must be at least 1, not {depth}")
    layers = [make("layer_0", activation, RECTIFIER_GAIN)]
    for i in range(1, depth):
        if kind == "plain":
            layers.append(make(f"layer_{i}", activation, RECTIFIER_GAIN))
        elif kind == "residual":
            # Every layer adds to the variance; a small share each keeps the sum bounded at any depth.
            layers.append(Residual(make("transform", activation, depth**-0.5), name=f"layer_{i}"))
        else:
            # Gates begin by carrying (Srivastava et al. 2015, section 2.2: a transform bias of −1 to −3).
            transform, gate = make("transform", activation, RECTIFIER_GAIN), make("gate", None, 1.0, 2.0)
            layers.append(Highway(transform, gate, name=f"layer_{i}"))
    return layers


def _build_stack(layers: list[keras.layers.Layer], input_shape: tuple[int | None, ...], units: int) -> None:
    for layer in layers:
        layer.build(input_shape)
        input_shape = (*input_shape[:-1], units)


def _require_same_shape(layer: keras.layers.Layer, shape: tuple[int | None, ...]) -> None:
    if layer.compute_output_shape(shape)[1:] != tuple(shape[1:]):
        raise ValueError(f"{layer.name} maps {shape} to {layer.compute_output_shape(shape)}; it must keep the shape")

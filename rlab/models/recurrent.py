"""Recurrent networks that carry their memory in plain sight: state in, state out."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rlab.models.initializers import orthogonal


class RNNState(NamedTuple):
    """The memory of a simple recurrent network, float32 [B, H]."""

    output: tf.Tensor  # a


class LSTMState(NamedTuple):
    """The memory of an LSTM; both float32 [B, H]."""

    output: tf.Tensor  # a, elsewhere h
    cell: tf.Tensor  # s, elsewhere c


class RecurrentLayer(keras.layers.Layer):
    """The base of all memories: the walk over time, resets, masks and the state an episode begins with.

    Maps inputs [T, B, F], a state, resets [T, B] and a mask `valid` [T, B] to outputs [T, B, units] and the state after
    the last step. Where resets[t, b] is 1, sequence b begins anew before step t, so that nothing crosses an episode's
    start. Where valid[t, b] is 0 the input is padding: the memory passes unchanged and the output is 0. Without a state
    every sequence begins anew at t = 0.

    A subclass has `units`, `zero_state`, `project` and `step`.
    """

    units: int

    def zero_state(self, batch_size: int) -> Any:
        """Empty memory for a batch."""
        raise NotImplementedError

    def project(self, inputs: tf.Tensor) -> Any:
        """The part of the steps that can be computed from all inputs [T, B, F] at once."""
        raise NotImplementedError

    def step(self, state: Any, projected: Any) -> tuple[tf.Tensor, Any]:
        """One step: the state before it and its projected input to the output [B, units] and the state after it."""
        raise NotImplementedError

    def initial_state(self, batch_size: int) -> Any:
        """The memory with which an episode begins; zeros, unless the layer learns it."""
        return self.zero_state(batch_size)

    def call(
        self, inputs: tf.Tensor, state: Any = None, resets: tf.Tensor | None = None, valid: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, Any]:
        if inputs.shape.rank != 3:
            raise ValueError(f"{self.name} takes inputs [T, B, F], and not {inputs.shape}")
        begin = self.initial_state(inputs.shape[1])
        if state is not None:  # it may come as plain tuples
            state = tf.nest.pack_sequence_as(begin, tf.nest.flatten(state))
        outputs = tf.TensorSpec((inputs.shape[1], self.units))
        if valid is not None:  # what padding holds, be it NaN, reaches neither the sums nor their gradient
            inputs = tf.where(valid[..., None] != 0.0, inputs, 0.0)
        steps = (self.project(inputs), resets, valid)
        return unroll(self._guarded(begin), steps, begin if state is None else state, outputs)

    def _guarded(self, begin: Any) -> Callable:
        """`step`, with resets before it and the mask after it."""

        def step(state: Any, projected: Any, reset: tf.Tensor | None, valid: tf.Tensor | None) -> tuple[Any, Any]:
            if reset is not None:
                state = choose(reset, begin, state)
            output, after = self.step(state, projected)
            if valid is not None:
                output, after = choose(valid, (output, after), (tf.zeros_like(output), state))
            return output, after

        return step


class RNN(RecurrentLayer):
    """The simple recurrent network (Elman 1990): a[t] = f(W x[t] + Ω a[t−1] + b), f = tanh unless given.

    Layers on top of one another are several of these in turn.
    """

    def __init__(self, units: int, seeds: Iterator[int], activation: str = "tanh", name: str = "rnn") -> None:
        super().__init__(name=name)
        self.units = units
        self.activation = keras.activations.get(activation)
        self._initializers = orthogonal(1.0, seeds), orthogonal(1.0, seeds)

    def build(self, input_shape: tuple[int | None, ...], *_: object) -> None:
        input_init, recurrent_init = self._initializers
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer=input_init, name="kernel")
        self.recurrent = self.add_weight(shape=(self.units, self.units), initializer=recurrent_init, name="recurrent")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.built = True

    def zero_state(self, batch_size: int) -> RNNState:
        return RNNState(tf.zeros((batch_size, self.units)))

    def project(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.tensordot(inputs, self.kernel, 1) + self.bias

    def step(self, state: Any, projected: tf.Tensor) -> tuple[tf.Tensor, RNNState]:
        output = self.activation(projected + tf.matmul(state[0], tf.convert_to_tensor(self.recurrent)))
        return output, RNNState(output)


class LSTM(RecurrentLayer):
    """Long short-term memory with peepholes (Hochreiter and Schmidhuber 1997; Gers and Schmidhuber 2000; Graves 2012).

    Every gate G ∈ {I, F, O} has z_G[t] = b_G + ψ_G ⊙ s[t−1] + W_G x[t] + Ω_G a[t−1], and z has no peephole. With
    f = σ, g = h = tanh: s[t] = f(z_F) s[t−1] + f(z_I) g(z), a[t] = f(z_O) h(s[t]). Unlike in Graves 2012, chapter 4,
    the output gate too sees s[t−1], so that all gates are one product.

    Args:
        units: H.
        seeds: one seed to each initializer.
        output_peephole: "previous", as above, or "current": the output gate sees s[t], as Graves has it.
        learned_initial_state: let the state with which an episode begins be parameters, not zeros.
        horizon: steps over which a new network remembers. With h > 1 the forget gates' biases are drawn as ln U(1, h −
            1) and the input gates' are their negatives (Tallec and Ollivier 2018, "chrono initialization"); 0 gives
            the forget gates a bias of 1.
    """

    def __init__(
        self,
        units: int,
        seeds: Iterator[int],
        output_peephole: str = "previous",
        learned_initial_state: bool = False,
        horizon: int = 0,
        name: str = "lstm",
    ) -> None:
        super().__init__(name=name)
        if output_peephole not in ("previous", "current"):
            raise ValueError(f"output_peephole must be 'previous' or 'current', not {output_peephole!r}")
        self.units, self.output_peephole = units, output_peephole
        self.learned_initial_state = learned_initial_state
        self.horizon = horizon
        self._initializers = orthogonal(1.0, seeds), orthogonal(1.0, seeds)
        self._bias_seed = next(seeds) if horizon > 1 else 0

    def build(self, input_shape: tuple[int | None, ...], *_: object) -> None:
        input_init, recurrent_init = self._initializers
        width = 4 * self.units  # in the order I, F, cell input, O
        self.kernel = self.add_weight(shape=(input_shape[-1], width), initializer=input_init, name="kernel")
        self.recurrent = self.add_weight(shape=(self.units, width), initializer=recurrent_init, name="recurrent")
        self.bias = self.add_weight(shape=(width,), initializer=self._initial_bias, name="bias")
        self.peepholes = self.add_weight(shape=(3, self.units), initializer="zeros", name="peepholes")  # ψ: I, F, O
        if self.learned_initial_state:
            self.beginning = self.add_weight(shape=(2, self.units), initializer="zeros", name="beginning")
        self.built = True

    def _initial_bias(self, shape: tuple[int, ...], dtype: str | None = None) -> tf.Tensor:
        if self.horizon > 1:
            spans = np.random.default_rng(self._bias_seed).uniform(1.0, max(self.horizon - 1.0, 1.0), self.units)
            forget, zeros = np.log(spans), np.zeros(self.units)
            return tf.constant(np.concatenate([-forget, forget, zeros, zeros]), dtype or "float32")
        # Forget gates start open: 1 added to their bias (Gers et al. 2000; Jozefowicz et al. 2015).
        return tf.repeat(tf.constant([0.0, 1.0, 0.0, 0.0], dtype or "float32"), self.units)

    def zero_state(self, batch_size: int) -> LSTMState:
        zeros = tf.zeros((batch_size, self.units))
        return LSTMState(zeros, zeros)

    def initial_state(self, batch_size: int) -> LSTMState:
        if not self.learned_initial_state:
            return self.zero_state(batch_size)
        return LSTMState(*tf.unstack(tf.repeat(tf.convert_to_tensor(self.beginning)[:, None], batch_size, axis=1)))

    def project(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.tensordot(inputs, self.kernel, 1) + self.bias

    def step(self, state: Any, projected: tf.Tensor) -> tuple[tf.Tensor, LSTMState]:
        output, cell = state
        see_i, see_f, see_o = tf.unstack(tf.convert_to_tensor(self.peepholes))
        z = projected + tf.matmul(output, tf.convert_to_tensor(self.recurrent))
        z_i, z_f, z_g, z_o = tf.split(z, 4, axis=-1)
        after = tf.sigmoid(z_f + see_f * cell) * cell + tf.sigmoid(z_i + see_i * cell) * tf.tanh(z_g)
        seen = after if self.output_peephole == "current" else cell
        output = tf.sigmoid(z_o + see_o * seen) * tf.tanh(after)
        return output, LSTMState(output, after)


def unroll(step: Callable, inputs: tuple, state: Any, spec: Any) -> tuple[Any, Any]:
    """Walk over time: `step(state, *inputs_t) -> (outputs_t, state)`, from nests [T, ...] to outputs [T, ...].

    `spec` is the nest of outputs_t's tf.TensorSpecs. A None among the inputs stays None at every step. A loop, not an
    unrolled graph: XLA compiles it in a tenth of the time and it runs no slower. One step needs none.
    """
    leaves = tf.nest.flatten(inputs)
    present = [leaf for leaf in leaves if leaf is not None]
    time = present[0].shape[0]

    def at(slices: list[tf.Tensor]) -> tuple:
        given = iter(slices)
        return tf.nest.pack_sequence_as(inputs, [None if leaf is None else next(given) for leaf in leaves])

    if time == 1:
        outputs, state = step(state, *at([leaf[0] for leaf in present]))
        return tf.nest.map_structure(lambda part: part[None], outputs), state
    arrays = [tf.TensorArray(leaf.dtype, time, element_shape=leaf.shape[1:]).unstack(leaf) for leaf in present]
    written = [tf.TensorArray(part.dtype, time, element_shape=part.shape) for part in tf.nest.flatten(spec)]

    def body(t: tf.Tensor, state: Any, written: list) -> tuple:
        outputs_t, state = step(state, *at([array.read(t) for array in arrays]))
        parts = tf.nest.flatten(outputs_t)
        return t + 1, state, [array.write(t, part) for array, part in zip(written, parts, strict=True)]

    _, state, written = tf.while_loop(
        lambda t, *_: t < time, body, (tf.constant(0), state, written), maximum_iterations=time
    )
    return tf.nest.pack_sequence_as(spec, [array.stack() for array in written]), state


def choose(condition: tf.Tensor, this: Any, that: Any) -> Any:
    """Select by rows: `this` where condition [B] is not 0, else `that`; nests of [B, ...]."""

    def pick(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        rows = tf.reshape(condition != 0.0, (-1, *[1] * (len(a.shape) - 1)))
        return tf.where(rows, a, b)

    flat = zip(tf.nest.flatten(this), tf.nest.flatten(that), strict=True)
    return tf.nest.pack_sequence_as(this, [pick(a, b) for a, b in flat])

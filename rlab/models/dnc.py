"""The differentiable neural computer.

Graves, Wayne, Reynolds, Harley, Danihelka et al.: "Hybrid computing using a neural network with dynamic external
memory", Nature 538 (2016), Methods. Notation: N locations of W numbers each, R read heads, B sequences. Each addressing
piece is a function of its own, so that each is tested by itself.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from rlab.models.initializers import orthogonal
from rlab.models.recurrent import LSTM, LSTMState, RecurrentLayer, unroll

_EPSILON = 1e-6


class DNCState(NamedTuple):
    """The memory of a DNC, all float32."""

    controller: LSTMState
    memory: tf.Tensor  # M [B, N, W]
    usage: tf.Tensor  # u [B, N]
    precedence: tf.Tensor  # p [B, N]
    link: tf.Tensor  # L [B, N, N]
    write_weights: tf.Tensor  # w^w [B, N]
    read_weights: tf.Tensor  # w^r [B, R, N]
    reads: tf.Tensor  # r [B, R, W]


class Interface(NamedTuple):
    """The interface of the controller to the memory at one step, after its squashing."""

    read_keys: tf.Tensor  # k^r [B, R, W]
    read_strengths: tf.Tensor  # β^r [B, R], at least 1
    write_key: tf.Tensor  # k^w [B, W]
    write_strength: tf.Tensor  # β^w [B], at least 1
    erase: tf.Tensor  # e [B, W] in [0, 1]
    write: tf.Tensor  # v [B, W]
    free_gates: tf.Tensor  # f [B, R] in [0, 1]
    allocation_gate: tf.Tensor  # g^a [B, 1] in [0, 1]
    write_gate: tf.Tensor  # g^w [B, 1] in [0, 1]
    read_modes: tf.Tensor  # π [B, R, 3]: backward, content, forward; rows sum to 1


class Trace(NamedTuple):
    """The history of a DNC's memory, for plots."""

    outputs: tf.Tensor  # [T, B, units]
    read_weights: tf.Tensor  # [T, B, R, N]
    write_weights: tf.Tensor  # [T, B, N]
    usage: tf.Tensor  # [T, B, N]
    free_gates: tf.Tensor  # [T, B, R]
    allocation_gate: tf.Tensor  # [T, B, 1]


class DNC(RecurrentLayer):
    """An LSTM controller with an external memory.

    y_t = W_y h_t + W_r [r_t^1; …; r_t^R] over the controller's output h_t and what was read. Maps [T, B, F] to
    [T, B, units], with state, resets and mask as every memory.

    Args:
        units: size of the output.
        seeds: one seed to each initializer.
        controller: H, units of the LSTM.
        locations, width, heads: N, W, R.
        clip: bound on the controller's state and on y, as in the authors' code; None for none.
        horizon: that of the controller, as of every LSTM.
    """

    def __init__(
        self,
        units: int,
        seeds: Iterator[int],
        controller: int = 64,
        locations: int = 16,
        width: int = 16,
        heads: int = 4,
        clip: float | None = 20.0,
        horizon: int = 0,
        name: str = "dnc",
    ) -> None:
        super().__init__(name=name)
        self.units, self.locations, self.width, self.heads, self.clip = units, locations, width, heads, clip
        self.controller = LSTM(controller, seeds, horizon=horizon, name="controller")
        size = width * heads + 3 * width + 5 * heads + 3
        self.interface = keras.layers.Dense(size, kernel_initializer=orthogonal(1.0, seeds), name="interface")
        self.output_map = keras.layers.Dense(units, kernel_initializer=orthogonal(1.0, seeds), name="output")

    def build(self, input_shape: tuple[int | None, ...], *_: object) -> None:
        assert input_shape[-1] is not None
        read = self.heads * self.width
        self.controller.build((None, None, input_shape[-1] + read))
        self.interface.build((None, self.controller.units))
        self.output_map.build((None, self.controller.units + read))
        self.built = True

    def zero_state(self, batch_size: int) -> DNCState:
        n, w, r = self.locations, self.width, self.heads
        shapes = (n, w), (n,), (n,), (n, n), (n,), (r, n), (r, w)
        return DNCState(self.controller.zero_state(batch_size), *(tf.zeros((batch_size, *shape)) for shape in shapes))

    def project(self, inputs: tf.Tensor) -> tf.Tensor:
        """The inputs' share of the controller's products; the share of what was read is added step by step."""
        kernel = tf.convert_to_tensor(self.controller.kernel)
        return tf.tensordot(inputs, kernel[: inputs.shape[-1]], 1) + self.controller.bias

    def step(self, state: Any, projected: tf.Tensor) -> tuple[tf.Tensor, DNCState]:
        trace, state = self._traced_step(state, projected)
        return trace.outputs, state

    def trace(self, inputs: tf.Tensor) -> Trace:
        """Run over inputs [T, B, F] from an empty memory, and record what the memory does."""
        batch, n, r = inputs.shape[1], self.locations, self.heads
        shapes = (self.units,), (r, n), (n,), (n,), (r,), (1,)
        spec = Trace(*(tf.TensorSpec((batch, *shape)) for shape in shapes))
        return unroll(self._traced_step, (self.project(inputs),), self.zero_state(batch), spec)[0]

    def _traced_step(self, state: Any, projected: tf.Tensor) -> tuple[Trace, DNCState]:
        batch = projected.shape[0]
        read_kernel = tf.convert_to_tensor(self.controller.kernel)[-self.heads * self.width :]
        projected += tf.matmul(tf.reshape(state.reads, (batch, -1)), read_kernel)
        _, controller = self.controller.step(state.controller, projected)
        controller = LSTMState(*map(self._clipped, controller))
        hidden = controller.output
        said = self._read_interface(self.interface(hidden))
        after = access(state._replace(controller=controller), said)
        features = tf.concat([hidden, tf.reshape(after.reads, (batch, -1))], -1)
        outputs = self._clipped(self.output_map(features))
        seen = Trace(
            outputs, after.read_weights, after.write_weights, after.usage, said.free_gates, said.allocation_gate
        )
        return seen, after

    def _clipped(self, x: tf.Tensor) -> tf.Tensor:
        return x if self.clip is None else tf.clip_by_value(x, -self.clip, self.clip)

    def _read_interface(self, vector: tf.Tensor) -> Interface:
        """Split ξ_t and squash each part (Methods, "Interface parameters")."""
        batch, w, r = vector.shape[0], self.width, self.heads
        parts = tf.split(vector, [w * r, r, w, 1, w, w, r, 1, 1, 3 * r], axis=-1)
        keys, strengths, key, strength, erase, write, free, allocation, gate, modes = parts
        return Interface(
            tf.reshape(keys, (batch, r, w)),
            _one_plus(strengths),
            key,
            _one_plus(strength)[:, 0],
            tf.sigmoid(erase),
            write,
            tf.sigmoid(free),
            tf.sigmoid(allocation),
            tf.sigmoid(gate),
            tf.nn.softmax(tf.reshape(modes, (batch, r, 3))),
        )


def access(state: DNCState, said: Interface) -> DNCState:
    """One step of the memory: write, then read. The controller's part of the state passes through."""
    usage = next_usage(state.usage, state.write_weights, state.read_weights, said.free_gates)
    by_content = content_weights(state.memory, said.write_key[:, None], said.write_strength[:, None])[:, 0]
    allocated = said.allocation_gate * allocation_weights(usage) + (1.0 - said.allocation_gate) * by_content
    write_weights = said.write_gate * allocated
    memory = written_memory(state.memory, write_weights, said.erase, said.write)
    link = next_link(state.link, state.precedence, write_weights)
    precedence = next_precedence(state.precedence, write_weights)
    found = content_weights(memory, said.read_keys, said.read_strengths)
    read_weights = next_read_weights(link, state.read_weights, found, said.read_modes)
    reads = tf.matmul(read_weights, memory)
    return DNCState(state.controller, memory, usage, precedence, link, write_weights, read_weights, reads)


def content_weights(memory: tf.Tensor, keys: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
    """C(M, k, β)[i] ∝ exp(β cos(k, M[i])): memory [B, N, W], keys [B, R, W], strengths [B, R] to [B, R, N]."""
    dots = tf.matmul(keys, memory, transpose_b=True)
    lengths = _length(keys)[..., None] * _length(memory)[:, None]
    return tf.nn.softmax(strengths[..., None] * dots / lengths)


def next_usage(usage: tf.Tensor, write: tf.Tensor, read: tf.Tensor, free_gates: tf.Tensor) -> tf.Tensor:
    """u_t = (u + w^w − u ⊙ w^w) ⊙ ψ, ψ = Π_r (1 − f^r w^r); [B, N], [B, N], [B, R, N], [B, R] to [B, N]."""
    kept = 1.0 - free_gates[..., None] * read
    retention = kept[:, 0]
    for head in range(1, kept.shape[1]):
        retention *= kept[:, head]
    return (usage + write - usage * write) * retention


def allocation_weights(usage: tf.Tensor) -> tf.Tensor:
    """a[φ_j] = (1 − u[φ_j]) Π_{i<j} u[φ_i], φ the locations by rising usage, equal ones by index; [B, N] to [B, N].

    The product over all freer locations needs no sorting: each location sums the logarithms of those before it.
    """
    # As in the authors' code usage is kept off 0, where its logarithm and its gradient would be infinite.
    usage = _EPSILON + (1.0 - _EPSILON) * usage
    n = usage.shape[1]
    this, other = usage[:, :, None], usage[:, None, :]
    earlier = tf.range(n)[None, :] < tf.range(n)[:, None]  # [i, j]: j stands before i
    before = tf.cast((other < this) | ((other == this) & earlier), tf.float32)
    return (1.0 - usage) * tf.exp(tf.linalg.matvec(before, tf.math.log(usage)))


def written_memory(memory: tf.Tensor, weights: tf.Tensor, erase: tf.Tensor, write: tf.Tensor) -> tf.Tensor:
    """M_t = M ⊙ (1 − w e⊤) + w v⊤; [B, N, W], [B, N], [B, W], [B, W] to [B, N, W]."""
    w = weights[..., None]
    return memory * (1.0 - w * erase[:, None]) + w * write[:, None]


def next_precedence(precedence: tf.Tensor, write_weights: tf.Tensor) -> tf.Tensor:
    """p_t = (1 − Σ_i w[i]) p + w; [B, N], [B, N] to [B, N]."""
    return (1.0 - tf.reduce_sum(write_weights, -1, keepdims=True)) * precedence + write_weights


def next_link(link: tf.Tensor, precedence: tf.Tensor, write_weights: tf.Tensor) -> tf.Tensor:
    """L_t[i, j] = (1 − w[i] − w[j]) L[i, j] + w[i] p[j], 0 for i = j; [B, N, N], p before the step, to [B, N, N]."""
    i, j = write_weights[:, :, None], write_weights[:, None, :]
    link = (1.0 - i - j) * link + i * precedence[:, None]
    return link * (1.0 - tf.eye(link.shape[1]))


def next_read_weights(link: tf.Tensor, read: tf.Tensor, by_content: tf.Tensor, modes: tf.Tensor) -> tf.Tensor:
    """w^r_t = π_1 L⊤w^r + π_2 c + π_3 L w^r: backward, content, forward; [B, R, N] and modes [B, R, 3] to [B, R, N]."""
    backward, forward = tf.matmul(read, link), tf.matmul(read, link, transpose_b=True)
    return modes[..., 0:1] * backward + modes[..., 1:2] * by_content + modes[..., 2:3] * forward


def _one_plus(x: tf.Tensor) -> tf.Tensor:
    return 1.0 + tf.nn.softplus(x)


def _length(vectors: tf.Tensor) -> tf.Tensor:
    # The small number inside the root keeps the gradient of an all-zero row finite.
    return tf.sqrt(tf.reduce_sum(tf.square(vectors), -1) + _EPSILON)

"""A population of policies that act at once: one architecture, the parameters of each member in a row."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from rlab.ops.compiling import GRAPH, XLA, Formulation, compiled
from rlab.ops.sharing import once
from rlab.policies.acting import compile_packed
from rlab.policies.actions import PopulationStep, action_dtype, action_shape, shape_of
from rlab.policies.policy import Policy
from rlab.types import State

_LARGE = 256  # numbers; smaller parameters of a member are passed together


class Population:
    """Members of one architecture, each of which plays in E environments of its own.

    Args:
        policy: the architecture.
        rows: E.
        deterministic: take the likeliest actions; random numbers are not used then.
        reference: observations [N, ...] to which a policy with virtual batch normalization refers; else None.
    """

    def __init__(
        self, policy: Policy, rows: int = 1, deterministic: bool = True, reference: np.ndarray | None = None
    ) -> None:
        self.policy, self.rows, self._deterministic = policy, rows, deterministic
        # How the names begin of parameters on which no action depends: the critic's, and the width of unused noise.
        self._idle = ("value/", "log_std") if deterministic else ("value/",)
        self._small, self._large = self._division()
        key = policy, deterministic
        self._split = once(lambda: compiled(self.split_parameters), "split", *key)
        self.act: PopulationStep = once(self._compile, "population", *key, rows)
        self._measure = _compile_reference(policy, reference)

    @property
    def action_mask(self) -> np.ndarray:
        """The mask of parameters on which actions depend, float32 [D]: 0 at the critic's, statistics, unused noise."""
        named = self.policy.named(self.policy.trainable_mask)
        return self.policy.flatten({name: part * (not name.startswith(self._idle)) for name, part in named.items()})

    def refer(self, params: tf.Tensor) -> tf.Tensor:
        """The members' parameters [G, D] with the reference batch's statistics under each of them."""
        return self._measure(params)

    def prepare(self, params: tf.Tensor) -> list[tf.Tensor]:
        """The members' parameters [G, D] as `act` takes them."""
        return self._split(self.refer(params))

    def initial_state(self, members: int) -> State:
        """Empty memories [G, E, ...]."""
        return tf.nest.map_structure(
            lambda part: tf.tile(part[None], [members, *[1] * len(part.shape)]), self.policy.initial_state(self.rows)
        )

    def split_parameters(self, params: tf.Tensor) -> list[tf.Tensor]:
        """The parameters [G, D] in tensors of their own: those on which actions depend, and no others.

        Cut out of [G, D] at every step, a large matrix is copied at every step, which costs as much as its product; and
        each tensor that is passed costs too. So the large ones, [G, ...] each, come after a row [G, S] of all others.
        """
        layout = self.policy.layout
        split = zip(tf.split(params, layout.sizes, 1), layout.shapes, strict=True)
        parts = [tf.reshape(part, (-1, *shape)) for part, shape in split]
        row = tf.concat([tf.reshape(parts[i], (params.shape[0], layout.sizes[i])) for i in self._small], 1)
        return [row, *(parts[i] for i in self._large)]

    def _join(self, divided: list[tf.Tensor]) -> list[tf.Tensor]:
        """The policy's parameters from those of one member that `split_parameters` gave; 0 for those left out."""
        layout, (row, *found) = self.policy.layout, divided
        parts = dict(zip(self._large, found, strict=True))
        for i, part in zip(self._small, tf.split(row, [layout.sizes[i] for i in self._small]), strict=True):
            parts[i] = tf.reshape(part, layout.shapes[i])
        return [parts[i] if i in parts else tf.zeros(shape) for i, shape in enumerate(layout.shapes)]

    def _division(self) -> tuple[list[int], list[int]]:
        """The places in the layout of small parameters on which actions depend, and of large ones; biases are small."""
        names, shapes = self.policy.layout.names, self.policy.layout.shapes
        kept = [i for i, name in enumerate(names) if not name.startswith(self._idle)]
        large = [i for i in kept if len(shapes[i]) > 1 and self.policy.layout.sizes[i] >= _LARGE]
        return [i for i in kept if i not in large], large

    def _compile(self) -> PopulationStep:
        """One acting step of any number of members, E rows of each, member after member; compiled for each number.

        The members' products are batched (`tf.vectorized_map` of the policy that all agents use), so a step costs one
        pass over their parameters.
        """
        policy, rows, deterministic = self.policy, self.rows, self._deterministic

        def act(given: tuple) -> tuple[tf.Tensor, State]:
            divided, observations, state, resets, seed = given
            output, state = policy.apply(self._join(divided), observations[None], state, resets[None])
            actions = output.distribution.mode() if deterministic else output.distribution.sample(seed)
            return actions[0], policy.remember(state, actions[0])

        # A loop over TensorArrays inside a step cannot be vectorized: there the members act one after another.
        loops = policy.loops
        # As of `compile_acting`; but each member's random numbers are a loop in a graph, and convolutions were no
        # faster.
        formulation = Formulation(XLA if loops or policy.reading.image or not deterministic else GRAPH)
        seen, chosen = policy.observation_space, policy.action_space
        outputs = (
            tf.TensorSpec((rows, *action_shape(chosen)), action_dtype(chosen)),
            tf.nest.map_structure(tf.TensorSpec.from_tensor, policy.initial_state(rows)),
        )

        def act_together(
            params: Any, state: State, observations: Any, resets: Any, seeds: Any
        ) -> tuple[tf.Tensor, State]:
            split = lambda part: tf.reshape(part, (-1, rows, *part.shape[1:]))  # noqa: E731
            given = (params, split(observations), state, split(resets), seeds)
            each = functools.partial(tf.map_fn, fn_output_signature=outputs) if loops else tf.vectorized_map
            actions, state = each(act, given)
            return tf.reshape(actions, (-1, *actions.shape[2:])), state

        @functools.cache
        def concrete(members: int) -> Callable[..., Any]:
            arrays = [
                tf.TensorSpec((members * rows, *shape_of(seen)), tf.as_dtype(seen.dtype)),
                tf.TensorSpec((members * rows,), tf.float32),
                tf.TensorSpec((members, 2), tf.int32),
            ]
            params = tf.nest.map_structure(
                tf.TensorSpec.from_tensor, self.split_parameters(tf.zeros((members, policy.size)))
            )
            return compile_packed(act_together, params, self.initial_state(members), arrays, formulation)

        def step(params: Any, observations: Any, state: State, resets: Any, seeds: Any) -> tuple[tf.Tensor, State]:
            return concrete(len(seeds))(params, state, observations, resets, seeds)

        return step


def _compile_reference(policy: Policy, observations: np.ndarray | None) -> Callable[[tf.Tensor], tf.Tensor]:
    if observations is None:
        return lambda params: params
    reference = tf.constant(observations)
    measured = functools.partial(policy.with_reference, observations=reference)
    return tf.function(lambda params: tf.vectorized_map(measured, params), jit_compile=True, autograph=False)

"""A population of policies that act at once: one architecture, the parameters of each member in a row."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from rlab.ops.compiling import GRAPH, XLA, Formulation
from rlab.ops.sharing import once
from rlab.policies.acting import compile_packed
from rlab.policies.actions import PopulationStep, action_dtype, action_shape, shape_of
from rlab.policies.policy import Policy
from rlab.types import State

_LARGE = 256  # numbers; smaller parameters of a member are passed together


def divide(policy: Policy, params: tf.Tensor, deterministic: bool = True) -> list[tf.Tensor]:
    """The members' parameters [G, D] as the acting step of a population takes them: what decides and nothing else.

    Cut out of [G, D] at every step, a large matrix is copied at every step, which costs as much as its product; and
    each tensor that is passed costs too. So the large ones, [G, ...] each, come after a row [G, S] of all others.
    """
    (small, large), layout = _division(policy, deterministic), policy.layout
    split = zip(tf.split(params, layout.sizes, 1), layout.shapes, strict=True)
    parts = [tf.reshape(part, (-1, *shape)) for part, shape in split]
    row = tf.concat([tf.reshape(parts[i], (params.shape[0], layout.sizes[i])) for i in small], 1)
    return [row, *(parts[i] for i in large)]


def _join(policy: Policy, divided: list[tf.Tensor], deterministic: bool) -> list[tf.Tensor]:
    """What `divide` gave of one member as the policy's parameters; what does not decide is 0."""
    (small, large), layout = _division(policy, deterministic), policy.layout
    row, *found = divided
    parts = dict(zip(large, found, strict=True))
    for i, part in zip(small, tf.split(row, [layout.sizes[i] for i in small]), strict=True):
        parts[i] = tf.reshape(part, layout.shapes[i])
    return [parts[i] if i in parts else tf.zeros(shape) for i, shape in enumerate(layout.shapes)]


def _division(policy: Policy, deterministic: bool) -> tuple[list[int], list[int]]:
    """The places in the layout of the small parameters that decide, and of the large ones; biases are small."""
    names, shapes = policy.layout.names, policy.layout.shapes
    deciding = [i for i, name in enumerate(names) if not name.startswith(_undecided(deterministic))]
    large = [i for i in deciding if len(shapes[i]) > 1 and policy.layout.sizes[i] >= _LARGE]
    return [i for i in deciding if i not in large], large


def compile_population(policy: Policy, rows: int, deterministic: bool = True) -> PopulationStep:
    """One acting step of any number of members with E rows each, member after member, compiled for each number.

    The members' products are batched (`tf.vectorized_map` of the policy that all agents use), so a step costs one pass
    over their parameters, which come from `divide`. With `deterministic` the likeliest action is taken and the seeds
    are not used.
    """
    make = functools.partial(_compile_population, policy, rows, deterministic)
    return once(make, "population", policy, rows, deterministic)


def _compile_population(policy: Policy, rows: int, deterministic: bool) -> PopulationStep:
    def act(given: tuple) -> tuple[tf.Tensor, State]:
        divided, observations, state, resets, seed = given
        params = _join(policy, divided, deterministic)
        output, state = policy.apply(params, observations[None], state, resets[None])
        actions = output.distribution.mode() if deterministic else output.distribution.sample(seed)
        return actions[0], policy.remember(state, actions[0])

    # A loop over TensorArrays inside a step cannot be vectorized: there the members act one after another.
    loops = policy.loops
    # As of `compile_acting`; but each member's random numbers are a loop in a graph, and convolutions were no faster.
    formulation = Formulation(XLA if loops or policy.reading.image or not deterministic else GRAPH)
    seen, chosen = policy.observation_space, policy.action_space
    outputs = (
        tf.TensorSpec((rows, *action_shape(chosen)), action_dtype(chosen)),
        tf.nest.map_structure(tf.TensorSpec.from_tensor, policy.initial_state(rows)),
    )

    def act_together(params: Any, state: State, observations: Any, resets: Any, seeds: Any) -> tuple[tf.Tensor, State]:
        split = lambda part: tf.reshape(part, (-1, rows, *part.shape[1:]))  # noqa: E731
        given = (params, split(observations), state, split(resets), seeds)
        actions, state = tf.map_fn(act, given, fn_output_signature=outputs) if loops else tf.vectorized_map(act, given)
        return tf.reshape(actions, (-1, *actions.shape[2:])), state

    @functools.cache
    def concrete(members: int) -> Callable[..., Any]:
        arrays = [
            tf.TensorSpec((members * rows, *shape_of(seen)), tf.as_dtype(seen.dtype)),
            tf.TensorSpec((members * rows,), tf.float32),
            tf.TensorSpec((members, 2), tf.int32),
        ]
        memory = population_state(policy, members, rows)
        given = tf.nest.map_structure(
            tf.TensorSpec.from_tensor, divide(policy, tf.zeros((members, policy.size)), deterministic)
        )
        return compile_packed(act_together, given, memory, arrays, formulation)

    def step(params: Any, observations: Any, state: State, resets: Any, seeds: Any) -> tuple[tf.Tensor, State]:
        return concrete(len(seeds))(params, state, observations, resets, seeds)

    return step


def compile_reference(policy: Policy, observations: np.ndarray | None) -> Callable[[tf.Tensor], tf.Tensor]:
    """Parameters [G, D] to those of the same members that refer to these observations [N, ...].

    Of a policy without virtual batch normalization they stay as they are.
    """
    if not policy.refers:
        return lambda params: params
    reference = tf.constant(observations)
    measured = functools.partial(policy.with_reference, observations=reference)
    return tf.function(lambda params: tf.vectorized_map(measured, params), jit_compile=True, autograph=False)


def population_state(policy: Policy, members: int, rows: int) -> State:
    """Empty memories [G, E, ...]."""
    return tf.nest.map_structure(
        lambda part: tf.tile(part[None], [members, *[1] * len(part.shape)]), policy.initial_state(rows)
    )


def deciding(policy: Policy, deterministic: bool = True) -> np.ndarray:
    """Which of the parameters decide what is done, float32 [D]: 0 at the critic's, at statistics, at unused noise."""
    named = policy.named(policy.learned)
    unused = _undecided(deterministic)
    return policy.flatten({name: part * (not name.startswith(unused)) for name, part in named.items()})


def _undecided(deterministic: bool) -> tuple[str, ...]:
    """How the names begin of parameters on which no action depends."""
    return ("value/", "log_std") if deterministic else ("value/",)

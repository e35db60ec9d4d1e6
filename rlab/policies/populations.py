"""A population of policies that act at once: one architecture, the parameters of each member in a row."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from rlab.policies.acting import compile_packed
from rlab.policies.actions import PopulationStep, action_dtype, shape_of
from rlab.policies.policy import Policy
from rlab.types import State


def compile_population(policy: Policy, rows: int, deterministic: bool = True) -> PopulationStep:
    """One acting step of any number of members with E rows each, member after member, compiled by XLA for each number.

    The members' products are batched (`tf.vectorized_map` of the policy that all agents use), so a step costs one pass
    over their parameters. With `deterministic` the likeliest action is taken and the seeds are not used.
    """

    def act(given: tuple) -> tuple[tf.Tensor, State]:
        params, observations, state, resets, seed = given
        output, state = policy.apply(params, observations[None], state, resets[None])
        actions = output.distribution.mode() if deterministic else output.distribution.sample(seed)
        return actions[0], policy.remember(state, actions[0])

    # A loop over TensorArrays inside a step cannot be vectorized: there the members act one after another.
    loops = policy.backbone == "seq2seq"
    seen, chosen = policy.observation_space, policy.action_space
    outputs = (
        tf.TensorSpec((rows, *shape_of(chosen)), action_dtype(chosen)),
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
        return compile_packed(act_together, tf.TensorSpec((members, policy.size)), memory, arrays)

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
    unused = ("value/", "log_std") if deterministic else ("value/",)
    return policy.flatten({name: part * (not name.startswith(unused)) for name, part in named.items()})

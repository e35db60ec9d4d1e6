"""A population of policies that act at once: one architecture, the parameters of each member in a row."""

import numpy as np
import tensorflow as tf

from rlab.policies.actions import PopulationStep, action_dtype, shape_of
from rlab.policies.policy import Policy
from rlab.types import State


def compile_population(policy: Policy, members: int, rows: int, deterministic: bool = True) -> PopulationStep:
    """One acting step of G members with E rows each, member after member, compiled by XLA.

    The members' products are batched (`tf.vectorized_map` of the policy that all agents use), so a step costs one pass
    over their parameters. With `deterministic` the likeliest action is taken and the seed is not used.
    """

    def act(given: tuple) -> tuple[tf.Tensor, State]:
        params, observations, state, resets, seed = given
        output, state = policy.apply(params, observations[None], state, resets[None])
        actions = output.distribution.mode() if deterministic else output.distribution.sample(seed)
        return actions[0], policy.remember(state, actions[0])

    # A loop over TensorArrays inside a step cannot be vectorized: there the members act one after another.
    loops = policy.backbone == "seq2seq"
    space = policy.action_space
    outputs = (
        tf.TensorSpec((rows, *shape_of(space)), action_dtype(space)),
        tf.nest.map_structure(tf.TensorSpec.from_tensor, policy.initial_state(rows)),
    )

    @tf.function(jit_compile=True, autograph=False)
    def step(params: tf.Tensor, observations: tf.Tensor, state: State, resets: tf.Tensor, seed: tf.Tensor) -> tuple:
        split = lambda part: tf.reshape(part, (members, rows, *part.shape[1:]))  # noqa: E731
        seeds = seed + tf.stack([tf.range(members), tf.zeros(members, tf.int32)], 1)
        given = (params, split(observations), state, split(resets), seeds)
        actions, state = tf.map_fn(act, given, fn_output_signature=outputs) if loops else tf.vectorized_map(act, given)
        return tf.reshape(actions, (members * rows, *actions.shape[2:])), state

    return step


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

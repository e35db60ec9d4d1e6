"""The compiled acting step: one function of parameters, shared by every thread."""

import functools
import threading
from typing import Any, NamedTuple

import tensorflow as tf

from rlab.policies.actions import ActingStep, action_dtype, shape_of
from rlab.policies.policy import Policy
from rlab.types import State


class Share(NamedTuple):
    """Which rows of a larger batch this process acts for."""

    first: int
    total: int


def compile_acting(
    policy: Policy, deterministic: bool = False, share: Share | None = None, told: bool = False
) -> ActingStep:
    """One acting step of a batch, compiled by XLA at its first call for each batch size.

    Parameters are an argument, so one trace serves all threads and all parameter values. With `deterministic` the
    likeliest action is taken and the seed is not used. With a `share` the rows draw what they would draw in the whole
    batch. One that is `told` is given actions [B, ...] in place of the seed, and takes these.
    """

    @tf.function(jit_compile=True)
    def act(
        params: tf.Tensor, observations: tf.Tensor, state: State, resets: tf.Tensor, last: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, State]:
        output, state = policy.apply(params, observations[None], state, resets[None])
        if told:
            actions = last[None]
        else:
            actions = output.distribution.mode() if deterministic else _sample(output.distribution, last, share)
        return actions[0], output.values[0], policy.remember(state, actions[0])

    # A concrete function skips the look-up of a trace, which costs as much as acting itself for a few environments.
    concrete = functools.cache(lambda batch: act.get_concrete_function(*_signature(policy, batch, told)))
    tracing = threading.Lock()

    def step(params: Any, observations: Any, state: State, resets: Any, last: Any) -> tuple[Any, Any, State]:
        with tracing:
            compiled = concrete(len(observations))
        inputs = map(tf.convert_to_tensor, (params, observations, resets, last))
        params, observations, resets, last = inputs
        return compiled(params, observations, state, resets, last)

    return step


def _sample(distribution: Any, seed: tf.Tensor, share: Share | None) -> tf.Tensor:
    """Actions [1, B, ...]; of a share, from as many random numbers as the whole batch needs."""
    if share is None:
        return distribution.sample(seed)
    rows = distribution[0].shape[1]
    around = [[0, 0], [share.first, share.total - share.first - rows], [0, 0]]
    whole = type(distribution)(*(tf.pad(part, around) for part in distribution))
    return whole.sample(seed)[:, share.first : share.first + rows]


def _signature(policy: Policy, batch: int, told: bool) -> tuple:
    """The shapes of an acting step's arguments."""
    space, actions = policy.observation_space, policy.action_space
    state = tf.nest.map_structure(lambda part: tf.TensorSpec(part.shape, part.dtype), policy.initial_state(batch))
    return (
        tf.TensorSpec((policy.size,), tf.float32),
        tf.TensorSpec((batch, *shape_of(space)), tf.as_dtype(space.dtype)),
        state,
        tf.TensorSpec((batch,), tf.float32),
        tf.TensorSpec((batch, *shape_of(actions)), action_dtype(actions)) if told else tf.TensorSpec((2,), tf.int32),
    )


def trace_graph(policy: Policy) -> tf.Graph:
    """The policy as a TensorFlow graph, to be looked at in TensorBoard."""

    @tf.function
    def policy_graph(params: tf.Tensor, observations: tf.Tensor) -> tuple:
        output, _ = policy.apply(params, observations, policy.initial_state(1), tf.zeros((1, 1)))
        return output.distribution, output.values

    space = policy.observation_space
    observations = tf.TensorSpec((1, 1, *shape_of(space)), space.dtype)
    return policy_graph.get_concrete_function(tf.TensorSpec((policy.size,)), observations).graph

"""The compiled acting step: one function of parameters, shared by every thread."""

import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
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

    def act(params: tf.Tensor, state: State, observations: tf.Tensor, resets: tf.Tensor, last: tf.Tensor) -> tuple:
        output, state = policy.apply(params, observations[None], state, resets[None])
        if told:
            actions = last[None]
        else:
            actions = output.distribution.mode() if deterministic else _sample(output.distribution, last, share)
        return actions[0], output.values[0], policy.remember(state, actions[0])

    # A call costs more for each of its arguments than acting does for a few environments, and the look-up of a trace
    # as much again: so all numbers come as one argument, and the function is made concrete.
    packed = policy.observation_space.dtype == np.float32
    kinds = [spec.dtype.as_numpy_dtype for spec in _signature(policy, 1, told)]

    @functools.cache
    def concrete(batch: int) -> Callable[..., Any]:
        observations, resets, last = _signature(policy, batch, told)
        numbers = [observations, resets, last] if packed else [resets, last]
        sizes = [spec.shape.num_elements() for spec in numbers]
        state = tf.nest.map_structure(lambda part: tf.TensorSpec(part.shape, part.dtype), policy.initial_state(batch))

        @tf.function(jit_compile=True)
        def unpack_and_act(params: tf.Tensor, words: tf.Tensor, *others: tf.Tensor) -> tuple:
            parts = [
                tf.bitcast(tf.reshape(part, spec.shape), spec.dtype)
                for part, spec in zip(tf.split(words, sizes), numbers, strict=True)
            ]
            seen = [] if packed else [others[0]]
            memory = tf.nest.pack_sequence_as(state, others[len(seen) :])
            return act(params, memory, *seen, *parts)

        others = [*([] if packed else [observations]), *tf.nest.flatten(state)]
        words = tf.TensorSpec((sum(sizes),), tf.int32)
        return unpack_and_act.get_concrete_function(tf.TensorSpec((policy.size,), tf.float32), words, *others)

    tracing = threading.Lock()

    def step(params: Any, observations: Any, state: State, resets: Any, last: Any) -> tuple[Any, Any, State]:
        with tracing:
            compiled = concrete(len(observations))
        given = [np.asarray(part, kind) for part, kind in zip((observations, resets, last), kinds, strict=True)]
        words = np.concatenate([part.reshape(-1).view(np.int32) for part in given[not packed :]])
        others = [*([] if packed else [tf.constant(given[0])]), *tf.nest.flatten(state)]
        return compiled(tf.convert_to_tensor(params), tf.constant(words), *others)

    return step


def _sample(distribution: Any, seed: tf.Tensor, share: Share | None) -> tf.Tensor:
    """Actions [1, B, ...]; of a share, from as many random numbers as the whole batch needs."""
    if share is None:
        return distribution.sample(seed)
    rows = distribution[0].shape[1]
    around = [[0, 0], [share.first, share.total - share.first - rows], [0, 0]]
    whole = type(distribution)(*(tf.pad(part, around) for part in distribution))
    return whole.sample(seed)[:, share.first : share.first + rows]


def _signature(policy: Policy, batch: int, told: bool) -> list[tf.TensorSpec]:
    """Of the observations, the resets, and the seed or the actions that are told."""
    space, actions = policy.observation_space, policy.action_space
    return [
        tf.TensorSpec((batch, *shape_of(space)), tf.as_dtype(space.dtype)),
        tf.TensorSpec((batch,), tf.float32),
        tf.TensorSpec((batch, *shape_of(actions)), action_dtype(actions)) if told else tf.TensorSpec((2,), tf.int32),
    ]


def trace_graph(policy: Policy) -> tf.Graph:
    """The policy as a TensorFlow graph, to be looked at in TensorBoard."""

    @tf.function
    def policy_graph(params: tf.Tensor, observations: tf.Tensor) -> tuple:
        output, _ = policy.apply(params, observations, policy.initial_state(1), tf.zeros((1, 1)))
        return output.distribution, output.values

    space = policy.observation_space
    observations = tf.TensorSpec((1, 1, *shape_of(space)), space.dtype)
    return policy_graph.get_concrete_function(tf.TensorSpec((policy.size,)), observations).graph

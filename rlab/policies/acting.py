"""The compiled acting step: one function of parameters, shared by every thread."""

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
import tensorflow as tf

from rlab.ops.compiling import GRAPH, PLAIN_XLA, XLA, Formulation, compiled
from rlab.ops.sharing import once
from rlab.policies.actions import ActingStep, action_dtype, action_shape, shape_of
from rlab.policies.policy import Policy, PolicyOutput
from rlab.types import State


class Acting(Protocol):
    """The interface of acting, of a policy or of one with a critic beside it; pure functions of parameters [D]."""

    observation_space: gym.Space
    action_space: gym.Space
    size: int  # D

    @property
    def parts(self) -> tuple[Any, ...]:
        """The objects that decide what it does: two with the same parts do the same."""

    def initial_state(self, batch_size: int) -> State:
        """Empty memory for a batch."""

    def apply(self, params: Any, observations: Any, state: State, resets: Any) -> tuple[PolicyOutput, State]:
        """One step: observations [1, B, ...] and resets [1, B]."""

    def remember(self, state: State, actions: Any) -> State:
        """The memory after a step in which `actions` [B, ...] were taken."""


class Share(NamedTuple):
    """The rows of a larger batch that this process acts for."""

    first: int
    total: int


def compile_acting(
    policy: Acting,
    deterministic: bool = False,
    share: Share | None = None,
    forced_actions: bool = False,
    formulation: Formulation | None = None,
) -> ActingStep:
    """One acting step of a batch, compiled at its first call for each batch size.

    Unless a `formulation` is given it runs as a graph, whose call takes less time than one of XLA's and which needs no
    seconds of compilation; where a memory loops within a step, by XLA (`rlab.ops.compiling`).

    Parameters are an argument, so one trace serves all threads and all parameter values. With `deterministic` the
    likeliest action is taken and the seed is not used. With a `share` the rows draw what they would draw in the whole
    batch. With `forced_actions` it is given actions [B, ...] in place of the seed, and takes these.
    """
    of = policy.parts
    if formulation is None:
        formulation = Formulation(XLA if of[0].loops else GRAPH)
    make = functools.partial(_compile_acting, policy, deterministic, share, forced_actions, formulation)
    return once(make, "acting", *of, deterministic, share, forced_actions, formulation)


def _compile_acting(
    policy: Acting, deterministic: bool, share: Share | None, forced_actions: bool, formulation: Formulation
) -> ActingStep:
    # The last argument is the seed or, of `forced_actions`, the actions.
    def act(params: tf.Tensor, state: State, observations: tf.Tensor, resets: tf.Tensor, given: tf.Tensor) -> tuple:
        output, state = policy.apply(params, observations[None], state, resets[None])
        if forced_actions:
            actions = given[None]
        else:
            actions = output.distribution.mode() if deterministic else _sample(output.distribution, given, share)
        return actions[0], output.values[0], policy.remember(state, actions[0])

    @functools.cache
    def concrete(batch: int) -> Callable[..., Any]:
        signature = _signature(policy, batch, forced_actions)
        return compile_packed(act, tf.TensorSpec((policy.size,)), policy.initial_state(batch), signature, formulation)

    tracing = threading.Lock()

    def step(params: Any, observations: Any, state: State, resets: Any, given: Any) -> tuple[Any, Any, State]:
        with tracing:
            compiled = concrete(len(observations))
        return compiled(params, state, observations, resets, given)

    return step


def compile_packed(
    function: Callable,
    params: Any,
    state: State,
    arrays: Sequence[tf.TensorSpec],
    formulation: Formulation = PLAIN_XLA,
) -> Callable:
    """Compile `function(params, state, *arrays)` for these shapes, and those of `state`.

    `params` is the specification of a tensor or a nest of them.

    A call costs more for each of its arguments than acting does for a few environments, and the look-up of a trace as
    much again: so all arrays whose numbers have four bytes come as one argument, and the function is made concrete.
    """
    kinds = [spec.dtype.as_numpy_dtype for spec in arrays]
    packed = [i for i, spec in enumerate(arrays) if spec.dtype.size == 4]
    apart = [i for i, spec in enumerate(arrays) if spec.dtype.size != 4]
    sizes = [arrays[i].shape.num_elements() for i in packed]
    memory = tf.nest.map_structure(lambda part: tf.TensorSpec(part.shape, part.dtype), state)
    many = len(tf.nest.flatten(params))

    def unpack_and_call(words: tf.Tensor, *others: tf.Tensor) -> Any:
        weights, others = tf.nest.pack_sequence_as(params, others[:many]), others[many:]
        given = dict(zip(apart, others, strict=False))  # the memory comes after them
        for i, part in zip(packed, tf.split(words, sizes), strict=True):
            given[i] = tf.bitcast(tf.reshape(part, arrays[i].shape), arrays[i].dtype)
        memory_now = tf.nest.pack_sequence_as(memory, others[len(apart) :])
        return function(weights, memory_now, *(given[i] for i in range(len(arrays))))

    words = tf.TensorSpec((sum(sizes),), tf.int32)
    others = [*tf.nest.flatten(params), *(arrays[i] for i in apart), *tf.nest.flatten(memory)]
    concrete = compiled(unpack_and_call, formulation).get_concrete_function(words, *others)
    run = concrete if formulation.compiler == XLA else _called_directly(concrete)

    def call(params: Any, state: State, *given: Any) -> Any:
        found = [np.asarray(part, kind) for part, kind in zip(given, kinds, strict=True)]
        words = np.concatenate([found[i].reshape(-1).view(np.int32) for i in packed])
        weights = map(tf.convert_to_tensor, tf.nest.flatten(params))
        return run(tf.constant(words), *weights, *(tf.constant(found[i]) for i in apart), *tf.nest.flatten(state))

    return call


def _called_directly(concrete: Any) -> Callable[..., Any]:
    """A graph's function without TensorFlow's binding of its arguments, which takes longer than a small network."""
    kinds, inside = [output.dtype for output in concrete.outputs], concrete.captured_inputs
    *heads, memory = concrete.structured_outputs  # tensors, and a nest of them, which takes time to pack
    first, remembers = len(heads), bool(tf.nest.flatten(memory))

    def call(*tensors: tf.Tensor) -> Any:
        found = tf.raw_ops.PartitionedCall(args=[*tensors, *inside], Tout=kinds, f=concrete)
        return *found[:first], tf.nest.pack_sequence_as(memory, found[first:]) if remembers else memory

    return call


def _sample(distribution: Any, seed: tf.Tensor, share: Share | None) -> tf.Tensor:
    """Actions [1, B, ...]; of a share, from as many random numbers as the whole batch needs."""
    if share is None:
        return distribution.sample(seed)
    parts = tf.nest.flatten(distribution)  # of several choices at once there are as many
    rows = parts[0].shape[1]
    around = [[0, 0], [share.first, share.total - share.first - rows], [0, 0]]
    whole = tf.nest.pack_sequence_as(distribution, [tf.pad(part, around) for part in parts])
    return whole.sample(seed)[:, share.first : share.first + rows]


def _signature(policy: Acting, batch: int, forced_actions: bool) -> list[tf.TensorSpec]:
    """The specifications of observations, resets, and the seed or, with `forced_actions`, the actions."""
    space, chosen = policy.observation_space, policy.action_space
    actions = tf.TensorSpec((batch, *action_shape(chosen)), action_dtype(chosen))
    return [
        tf.TensorSpec((batch, *shape_of(space)), tf.as_dtype(space.dtype)),
        tf.TensorSpec((batch,), tf.float32),
        actions if forced_actions else tf.TensorSpec((2,), tf.int32),
    ]


def trace_graph(policy: Policy) -> tf.Graph:
    """The policy as a TensorFlow graph, to be looked at in TensorBoard."""

    @tf.function(autograph=False)
    def policy_graph(params: tf.Tensor, observations: tf.Tensor) -> tuple:
        output, _ = policy.apply(params, observations, policy.initial_state(1), tf.zeros((1, 1)))
        return output.distribution, output.values

    space = policy.observation_space
    observations = tf.TensorSpec((1, 1, *shape_of(space)), space.dtype)
    return policy_graph.get_concrete_function(tf.TensorSpec((policy.size,)), observations).graph

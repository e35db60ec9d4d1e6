"""One conformance test that every backbone passes, on every kind of observation it takes."""

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from rlab.models.parameters import ParameterLayout
from rlab.policies.backbone_names import BACKBONES
from rlab.policies.policy import Policy
from rlab.runs.checkpoints import Checkpoint
from rlab.runs.directory import Run
from rlab.runs.policy_files import load_policy, save_architecture

VECTOR = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
NUMBERED = gym.spaces.Discrete(4, start=1)
IMAGE = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
TINY_IMAGE = gym.spaces.Box(0, 10, (7, 9, 3), np.uint8)
SMALL_IMAGE = gym.spaces.Box(0, 255, (2, 40, 36), np.uint8)
ACTIONS = gym.spaces.Discrete(3)
T, B = 4, 2

MEMORIES = ["rnn", "lstm", "dnc", "seq2seq"]
FITTING = [
    ("mlp", VECTOR),
    ("mlp", NUMBERED),
    ("cnn", IMAGE),
    ("nature", IMAGE),
    ("small-cnn", SMALL_IMAGE),
    ("tiny-cnn", TINY_IMAGE),
    ("lstm", TINY_IMAGE),
    ("vbn-cnn", SMALL_IMAGE),
    ("vbn-small-cnn", SMALL_IMAGE),
    *[(name, space) for name in ("highway", "residual", *MEMORIES) for space in (VECTOR, SMALL_IMAGE)],
]
IDS = [f"{name}-{type(space).__name__}{space.shape}" for name, space in FITTING]
every_backbone = pytest.mark.parametrize(("backbone", "space"), FITTING, ids=IDS)


def _observations(space, time=T, seed=0):
    space.seed(seed)
    return np.stack([[space.sample() for _ in range(B)] for _ in range(time)])


def _params(policy):
    """Fresh parameters, moved off the zeros that some begin with."""
    fresh = policy.initial_parameters(0)
    return tf.constant(fresh + np.random.default_rng(1).normal(size=fresh.shape, scale=0.02).astype(np.float32))


def test_no_backbone_is_missing():
    assert {name for name, _ in FITTING} == set(BACKBONES)


@every_backbone
def test_step_equals_unroll_with_resets_inside_and_under_xla(backbone, space):
    policy = Policy(space, ACTIONS, backbone)
    params, observations = _params(policy), tf.constant(_observations(space))
    resets = tf.constant([[1.0, 1.0], [0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])

    @tf.function(jit_compile=True)
    def apply(params, observations, state, resets):
        output, state = policy.apply(params, observations, state, resets)
        return output.distribution.logits, output.values, state

    logits, values, last = apply(params, observations, policy.initial_state(B), resets)
    assert logits.shape == (T, B, 3)
    assert values.shape == (T, B)
    state = policy.initial_state(B)
    for t in range(T):
        now = slice(t, t + 1)
        step_logits, step_values, state = apply(params, observations[now], state, resets[now])
        np.testing.assert_allclose(step_logits[0], logits[t], atol=1e-4)
        np.testing.assert_allclose(step_values[0], values[t], atol=1e-4)
    tf.nest.assert_same_structure(state, last)
    for stepped, unrolled in zip(tf.nest.flatten(state), tf.nest.flatten(last), strict=True):
        np.testing.assert_allclose(stepped, unrolled, atol=1e-4)


@pytest.mark.parametrize("backbone", MEMORIES)
def test_a_reset_clears_the_memory_and_nothing_else_does(backbone):
    policy = Policy(VECTOR, ACTIONS, backbone)
    params, observations = _params(policy), tf.constant(_observations(VECTOR))
    _, state = policy.apply(params, observations, policy.initial_state(B), tf.zeros((T, B)))
    now = observations[:1]
    fresh = policy.apply(params, now, policy.initial_state(B), tf.zeros((1, B)))[0].values
    mixed = policy.apply(params, now, state, tf.constant([[1.0, 0.0]]))[0].values
    np.testing.assert_allclose(mixed[0, 0], fresh[0, 0], atol=1e-6)
    assert abs(float(mixed[0, 1] - fresh[0, 1])) > 1e-6


@every_backbone
def test_first_and_second_derivatives_are_finite_and_reach_every_parameter(backbone, space):
    policy = Policy(space, ACTIONS, backbone)
    observations, resets = tf.constant(_observations(space)), tf.zeros((T, B))
    direction = tf.random.stateless_normal((policy.size,), (0, 1))

    @tf.function(jit_compile=not policy.is_recurrent, autograph=False)
    def derivatives(params):
        with tf.GradientTape() as outer:
            outer.watch(params)
            with tf.GradientTape() as inner:
                inner.watch(params)
                output, _ = policy.apply(params, observations, policy.initial_state(B), resets)
                logits = output.distribution.logits
                # Squares, so that the second derivative of the heads is not 0.
                value = tf.reduce_sum(tf.square(logits)) + tf.reduce_sum(tf.square(output.values - 1.0))
            gradient = inner.gradient(value, params)
            product = tf.tensordot(gradient, direction, 1)
        return gradient, outer.gradient(product, params)

    gradient, second = derivatives(_params(policy))
    assert np.isfinite(gradient).all()
    assert np.isfinite(second).all()
    learned = policy.named(policy.trainable_mask)
    for name, part in policy.named(gradient.numpy()).items():
        assert (np.abs(part).max() > 0.0) == learned[name].all(), f"no gradient reaches {name}, or one should not"
    assert np.abs(second).max() > 0.0


@every_backbone
def test_save_and_load(backbone, space, tmp_path):
    vector = {"normalize_observations": True, "observation_scale": 3.0} if space == VECTOR else {}
    policy = Policy(space, ACTIONS, backbone, **vector)
    params = policy.initial_parameters(3)
    if vector:
        params = policy.with_statistics(params, np.array([0.5, 0.0, -0.5]), np.array([0.1, 1.0, 0.2]))
    config = {"agent": "a3c", "env": None, "backbone": backbone, "seed": 0, "steps": 1, "config": {}}
    run = Run.create(tmp_path / "run", config)
    save_architecture(run.path, policy)
    run.save_checkpoint(Checkpoint(0, {f"policy/{k}": v for k, v in policy.named(params).items()}, {}))
    loaded = load_policy(run.path)
    observations = _observations(space, 1)[0]
    state = loaded.initial_state(B)
    actions, _ = loaded.act(observations, state, deterministic=True)
    output, _ = policy.apply(tf.constant(params), observations[None], policy.initial_state(B), tf.zeros((1, B)))
    np.testing.assert_array_equal(actions, output.distribution.mode()[0])


@every_backbone
def test_the_names_of_parameters_do_not_depend_on_what_was_built_before(backbone, space):
    first, second = Policy(space, ACTIONS, backbone), Policy(space, ACTIONS, backbone)
    assert first.layout.names == second.layout.names
    assert isinstance(first.layout, ParameterLayout)

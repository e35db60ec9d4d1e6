import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from rlab.errors import BadInputError
from rlab.ops.compiling import GRAPH, XLA, Formulation
from rlab.policies.acting import Share, compile_acting, compile_packed
from rlab.policies.actions import to_environment
from rlab.policies.inference import InferencePolicy
from rlab.policies.policy import Policy

VECTOR = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
IMAGE = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
SMALL_IMAGE = gym.spaces.Box(0, 255, (4, 42, 42), np.uint8)
DISCRETE, CONTINUOUS = gym.spaces.Discrete(3), gym.spaces.Box(-2.0, 2.0, (2,), np.float32)
CHOICES, BITS = gym.spaces.MultiDiscrete([3, 2]), gym.spaces.MultiBinary(4)

FITTING = [
    ("mlp", VECTOR),
    ("lstm", VECTOR),
    ("cnn", IMAGE),
    ("nature", IMAGE),
    ("lstm", IMAGE),
    ("small-cnn", SMALL_IMAGE),
]


@pytest.mark.parametrize("action_space", [DISCRETE, CONTINUOUS], ids=["discrete", "box"])
@pytest.mark.parametrize(("backbone", "space"), FITTING)
def test_shapes(backbone, space, action_space):
    policy = Policy(space, action_space, backbone)
    params = policy.initial_parameters(0)
    assert params.shape == (policy.size,)
    observations = np.stack([[space.sample() for _ in range(2)] for _ in range(3)])
    output, state = policy.apply(tf.constant(params), observations, policy.initial_state(2), tf.zeros((3, 2)))
    assert output.values.shape == (3, 2)
    assert output.distribution.entropy().shape == (3, 2)
    tf.nest.assert_same_structure(state, policy.initial_state(2))


@pytest.mark.parametrize(("backbone", "space"), FITTING)
def test_the_same_seed_gives_the_same_parameters(backbone, space):
    policy = Policy(space, DISCRETE, backbone)
    np.testing.assert_array_equal(policy.initial_parameters(7), policy.initial_parameters(7))
    assert (policy.initial_parameters(7) != policy.initial_parameters(8)).any()


def test_parameters_are_arguments():
    policy = Policy(VECTOR, DISCRETE)
    first, second = policy.initial_parameters(1), policy.initial_parameters(2)
    observations, resets = np.ones((1, 1, 3), np.float32), tf.zeros((1, 1))
    a = policy.apply(tf.constant(first), observations, (), resets)[0].values.numpy()
    b = policy.apply(tf.constant(second), observations, (), resets)[0].values.numpy()
    again = policy.apply(tf.constant(first), observations, (), resets)[0].values.numpy()
    assert a != b
    assert a == again


@pytest.mark.parametrize("backbone", ["mlp", "lstm", "dnc", "seq2seq", "highway"])
def test_a_normalizing_policy_is_a_plain_one_of_normalized_observations(backbone):
    plain = Policy(VECTOR, CONTINUOUS, backbone)
    policy = Policy(VECTOR, CONTINUOUS, backbone, normalize_observations=True, observation_scale=0.5)
    mean, deviation = np.array([3.0, -2.0, 0.5]), np.array([0.5, 10.0, 0.0])
    params = policy.with_statistics(policy.initial_parameters(0), mean, deviation)
    weights = {name: part for name, part in policy.named(params).items() if "observation_" not in name}
    seen = np.random.default_rng(0).normal(mean, 3.0, (4, 2, 3)).astype(np.float32)
    # What has not varied is shifted and not scaled; nothing is larger than ten deviations.
    scaled = np.clip((seen - mean) / [0.5, 10.0, 1.0], -10.0, 10.0).astype(np.float32)
    assert (np.abs(scaled) == 10.0).any()
    resets, start = tf.zeros((4, 2)), policy.initial_state(2)
    (given, values), _ = policy.apply(tf.constant(params), seen, start, resets)
    (expected, same), _ = plain.apply(tf.constant(plain.flatten(weights)), 0.5 * scaled, start, resets)
    np.testing.assert_allclose(given.mean, expected.mean, atol=1e-5)
    np.testing.assert_allclose(values, same, atol=1e-5)


def test_no_gradient_reaches_the_statistics():
    policy = Policy(VECTOR, DISCRETE, normalize_observations=True)
    params = tf.constant(policy.initial_parameters(0))
    with tf.GradientTape() as tape:
        tape.watch(params)
        loss = tf.reduce_sum(policy.apply(params, np.ones((1, 1, 3), np.float32), (), tf.zeros((1, 1)))[0].values)
    for name, part in policy.named(tape.gradient(loss, params).numpy()).items():
        assert ("observation_" in name) == (not part.any()) or name.startswith("policy/"), name


@pytest.mark.parametrize("space", [IMAGE, gym.spaces.Discrete(4)])
def test_only_vectors_can_be_normalized_and_scaled(space):
    for options in ({"normalize_observations": True}, {"observation_scale": 2.0}):
        with pytest.raises(BadInputError, match="only vectors can be normalized or scaled, and not observations of"):
            Policy(space, DISCRETE, **options)


def test_names_and_vector_are_inverse():
    policy = Policy(VECTOR, CONTINUOUS, "lstm")
    params = policy.initial_parameters(0)
    named = policy.named(params)
    assert len(named) == len(policy.layout.names)
    np.testing.assert_array_equal(policy.flatten(named), params)
    listed = policy.unflatten(tf.constant(params))
    np.testing.assert_array_equal(np.concatenate([np.ravel(part) for part in listed]), params)


def test_weights_of_another_policy_are_refused():
    policy, other = Policy(VECTOR, DISCRETE, "mlp"), Policy(VECTOR, gym.spaces.Discrete(4), "mlp")
    with pytest.raises(BadInputError, match="do not fit"):
        policy.flatten(other.named(other.initial_parameters(0)))


@pytest.mark.parametrize(
    ("space", "action_space", "backbone", "message"),
    [
        (VECTOR, DISCRETE, "cnn", "mlp, highway, .* would fit"),
        (IMAGE, DISCRETE, "mlp", "cnn, nature"),
        (VECTOR, DISCRETE, "lstmm", "did you mean 'lstm'"),
        (VECTOR, gym.spaces.Tuple([DISCRETE]), "mlp", "no policy head"),
        (gym.spaces.Dict(a=VECTOR), DISCRETE, "mlp", "no backbone"),
        (
            gym.spaces.Box(0, 255, (4, 10, 10), np.uint8),
            DISCRETE,
            "cnn",
            "images of 20×20 pixels at least, .*; tiny-cnn, highway",
        ),
    ],
)
def test_a_space_or_backbone_that_does_not_fit_is_named(space, action_space, backbone, message):
    with pytest.raises(BadInputError, match=message):
        Policy(space, action_space, backbone)


def test_resets_reach_the_memory():
    policy = Policy(VECTOR, DISCRETE, "lstm")
    params = tf.constant(policy.initial_parameters(0))
    observations = np.random.default_rng(0).normal(size=(1, 1, 3)).astype(np.float32)
    _, state = policy.apply(params, observations, policy.initial_state(1), tf.zeros((1, 1)))
    fresh = policy.apply(params, observations, policy.initial_state(1), tf.zeros((1, 1)))[0].values
    reset = policy.apply(params, observations, state, tf.ones((1, 1)))[0].values
    carried = policy.apply(params, observations, state, tf.zeros((1, 1)))[0].values
    np.testing.assert_allclose(fresh, reset, atol=1e-7)
    assert abs(float(carried[0, 0] - fresh[0, 0])) > 1e-6


def test_actions_stay_within_the_bounds():
    np.testing.assert_array_equal(to_environment(np.array([[3.0, -5.0]]), CONTINUOUS), [[2.0, -2.0]])
    np.testing.assert_array_equal(to_environment(np.array([0, 2]), gym.spaces.Discrete(3, start=-1)), [-1, 1])

    choices = gym.spaces.MultiDiscrete([3, 2], start=[1, -1])
    np.testing.assert_array_equal(to_environment(np.array([[0, 0], [2, 1]]), choices), [[1, -1], [3, 0]])


@pytest.mark.parametrize(("space", "features"), [(CHOICES, 5), (BITS, 4)])
def test_several_choices_at_once_are_acted_and_told(space, features):
    policy = Policy(VECTOR, space, "lstm", observe_actions=True)
    trained = InferencePolicy(policy, policy.initial_parameters(0))
    actions, state = trained.act(np.zeros((50, 3)), trained.initial_state(50))
    assert all(action in space for action in actions.astype(space.dtype))
    assert state.previous.shape == (50, features)
    output, _ = policy.apply(
        tf.constant(trained.parameters), np.zeros((1, 50, 3), np.float32), policy.initial_state(50), tf.zeros((1, 50))
    )
    assert output.distribution.log_prob(actions[None]).shape == (1, 50)


@pytest.mark.parametrize("space", [DISCRETE, CHOICES, BITS, CONTINUOUS])
def test_shares_of_a_batch_draw_what_the_whole_batch_draws(space):
    policy = Policy(VECTOR, space, "mlp")
    params = tf.constant(policy.initial_parameters(0))
    seen, resets, seed = np.random.default_rng(1).normal(size=(7, 3)), np.zeros(7), np.array([3, 4], np.int32)
    whole, values, _ = compile_acting(policy)(params, seen, (), resets, seed)
    assert len(np.unique(whole.numpy(), axis=0)) > 1  # rows that are all alike would show nothing
    for rows in (slice(0, 2), slice(2, 6), slice(6, 7)):
        act = compile_acting(policy, share=Share(rows.start, 7))
        actions, found, _ = act(params, seen[rows], (), resets[rows], seed)
        np.testing.assert_allclose(actions, whole[rows], atol=1e-6)
        np.testing.assert_allclose(found, values[rows], atol=1e-6)


@pytest.mark.parametrize("compiler", [GRAPH, XLA])
def test_a_compiled_function_may_capture_tensors(compiler):
    own = tf.random.stateless_normal((3,), (1, 2))  # a tensor that exists already is captured, and no constant
    row = tf.TensorSpec((3,), tf.float32)

    def add(params, state, seen):
        return params * seen + own, state

    found, state = compile_packed(add, row, (), [row], Formulation(compiler))(np.float32([1, 2, 3]), (), [4, 5, 6])
    np.testing.assert_allclose(found, np.array([4, 10, 18]) + own.numpy())
    assert state == ()


def test_a_trained_policy_acts_on_batches_and_single_observations():
    policy = Policy(VECTOR, CONTINUOUS, "lstm")
    trained = InferencePolicy(policy, policy.initial_parameters(0))
    actions, _ = trained.act(np.zeros((5, 3)), trained.initial_state(5))
    assert actions.shape == (5, 2)
    action, _ = trained.act(np.zeros(3), trained.initial_state(), deterministic=True)
    assert action.shape == (2,)
    again, _ = trained.act(np.zeros(3), trained.initial_state(), deterministic=True)
    np.testing.assert_array_equal(action, again)


def test_a_trained_policy_draws_anew_at_each_step_and_the_same_of_one_seed():
    policy = Policy(VECTOR, CONTINUOUS, "mlp", initial_std=0.1)  # well within the bounds
    drawn = []
    for seed in (0, 0, 1):
        trained = InferencePolicy(policy, policy.initial_parameters(0), seed)
        drawn.append(np.stack([trained.act(np.zeros(3), ())[0] for _ in range(8)]))
    assert len(np.unique(drawn[0], axis=0)) == 8
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.isin(drawn[0], drawn[2]).any()

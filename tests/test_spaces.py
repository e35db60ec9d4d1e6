"""Spaces and policies: actions within their bounds, and arrays that are images or vectors."""

import dataclasses
import functools
import itertools
import json
import math

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import agents
import envs
import rlab
from rlab import policies
from rlab.errors import BadInputError
from rlab.policies.actions import to_environment
from rlab.policies.inference import InferencePolicy, as_batch
from rlab.policies.observations import first_reading_of, reading_from_json, reading_of
from rlab.policies.policy import Policy, build, require_same_spaces
from rlab.runs import policy_files
from rlab.runs.policy_files import load_policy, read_architecture, save_architecture, space_from_json, space_to_json

BOX = gym.spaces.Box
with np.errstate(invalid="ignore"):  # gymnasium brings the infinity to an integer
    HALF_BOUNDED = BOX(np.array([-np.inf, 0]), np.array([5, np.inf]), (2,), np.int16)
VECTOR, DISCRETE = gym.spaces.Box(-1.0, 1.0, (3,), np.float32), gym.spaces.Discrete(3)


@st.composite
def boxes(draw):
    """Bounded Boxes of any shape and dtype, wide and narrow, one-valued ones among them."""
    dtype = np.dtype(draw(st.sampled_from(["float32", "float64", "int64", "int8", "uint8", "uint64", "bool"])))
    shape = draw(st.sampled_from([(), (1,), (3,), (2, 3)]))
    if dtype.kind == "f":
        most = float(np.finfo(dtype).max)
        numbers = st.floats(-most, most, width=8 * dtype.itemsize)
    elif dtype.kind == "b":
        numbers = st.integers(0, 1)
    else:
        numbers = st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max) - 1)
    first, second = (draw(hnp.arrays(dtype, shape, elements=numbers)) for _ in range(2))
    low, high = np.asarray(np.minimum(first, second)), np.asarray(np.maximum(first, second))
    return BOX(low, high, shape, dtype.type)


@settings(max_examples=300, deadline=None)
@given(boxes(), st.data())
def test_the_unit_interval_is_all_that_lies_between_the_bounds(space, data):
    size = math.prod(space.shape)
    actions = data.draw(hnp.arrays(np.float32, (3, size), elements=st.floats(-5.0, 5.0, width=32)))
    actions = np.concatenate([actions, np.full((1, size), -1.0), np.full((1, size), 1.0)]).astype(np.float32)
    taken = to_environment(actions, space)
    assert taken.shape == (5, *space.shape)
    assert taken.dtype == space.dtype
    assert all(space.contains(np.asarray(action)) for action in taken)
    np.testing.assert_array_equal(taken[3], space.low)
    np.testing.assert_array_equal(taken[4], space.high)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "half"),
    [
        (10.0, 20.0, np.float32, 17.5),
        (0.0, 512.0, np.float64, 384.0),
        (-3.0, -1.0, np.float32, -1.5),
        (-1e6, 1e6, np.float32, 5e5),
        (-3e38, 3e38, np.float32, 1.5e38),
        (0, 10, np.int64, 8),  # the nearest even of 7.5
        (7.0, 7.0, np.float32, 7.0),
    ],
)
def test_half_the_way_is_half_the_way(low, high, dtype, half):
    space = BOX(low, high, (1,), dtype)
    np.testing.assert_allclose(to_environment(np.array([[0.5]], np.float32), space), [[half]], rtol=1e-6)


def test_numbers_without_a_bound_are_the_environments_own():
    low, high = np.array([-np.inf, 0.0, -np.inf, -4.0], np.float32), np.array([np.inf, np.inf, 3.0, 4.0], np.float32)
    taken = to_environment(np.array([[5.5, 5.5, 5.5, 0.5], [-5.5, -5.5, -5.5, -0.5]]), BOX(low, high))
    np.testing.assert_array_equal(taken, [[5.5, 5.5, 3.0, 2.0], [-5.5, 0.0, -5.5, -2.0]])
    whole = BOX(-np.inf, np.inf, (1,), np.int32)
    np.testing.assert_array_equal(to_environment(np.array([[5.6], [-1e30]]), whole), [[6], [np.iinfo(np.int32).min]])


def test_version_0_1_cut_actions_off_and_nothing_else():
    space = BOX(10.0, 20.0, (2,), np.float32)
    np.testing.assert_array_equal(to_environment(np.array([[0.5, 30.0]]), space, scaled=False), [[10.0, 20.0]])
    np.testing.assert_array_equal(to_environment(np.array([[0.5, 12.25]]), space, scaled=False), [[10.0, 12.25]])


@pytest.mark.parametrize(
    "space",
    [
        BOX(10.0, 20.0, (), np.float32),
        BOX(-3.0, 1.0, (2, 3), np.float64),
        BOX(0, 512, (2,), np.int64),
        gym.spaces.Discrete(3, start=-1),
        gym.spaces.MultiDiscrete([[3, 2], [2, 2]], start=[[1, 0], [0, 5]]),
        gym.spaces.MultiBinary((2, 3)),
    ],
    ids=str,
)
def test_actions_of_every_shape_are_acted_told_and_judged(space):
    policy = Policy(VECTOR, space, observe_actions=True)
    trained = InferencePolicy(policy, policy.initial_parameters(0))
    actions, _ = trained.act(np.zeros((20, 3)), trained.initial_state(20))
    assert actions.dtype == space.dtype
    assert actions.shape == (20, *space.shape)
    assert all(space.contains(np.asarray(action)) for action in actions)
    told = policies.compile_acting(policy)(
        trained.parameters, np.zeros((20, 3)), trained.initial_state(20), np.zeros(20), np.zeros(2, np.int32)
    )[0]
    output, _ = policy.apply(
        tf.constant(trained.parameters), tf.zeros((1, 20, 3)), trained.initial_state(20), tf.zeros((1, 20)), told[None]
    )
    assert output.distribution.log_prob(told[None]).shape == (1, 20)


IMAGES = [
    ((84, 84), "uint8", (84, 84, 1)),
    ((4, 84, 84, 3), "uint8", (84, 84, 12)),
    ((3, 64, 48), "float32", (64, 48, 3)),
    ((7, 7, 3), "uint8", (7, 7, 3)),
    ((10, 10), "bool", (10, 10, 1)),
    ((13, 9, 2), "int16", (13, 9, 2)),
    ((84, 84, 84), "uint8", (84, 84, 84)),
    ((2, 3, 20, 20), "float64", (20, 20, 6)),
]


@pytest.mark.parametrize(("shape", "dtype", "seen"), IMAGES)
def test_images_are_known_by_their_shape_and_bounds(shape, dtype, seen):
    space = BOX(0, 1 if dtype == "bool" else 100, shape, np.dtype(dtype).type)
    reading = reading_of(space)
    assert reading.image
    assert reading.shape == seen
    assert reading_from_json(space, json.loads(json.dumps(reading.to_json()))) == reading
    about = dataclasses.replace(reading, background=0.5)
    assert reading_from_json(space, json.loads(json.dumps(about.to_json()))) == about != reading
    policy = Policy(space, DISCRETE)
    assert policy.backbone == ("cnn" if min(seen[:2]) >= 20 else "tiny-cnn")
    assert f"{policy.backbone} over image {seen[0]}×{seen[1]}" in policy.describe()
    trained = InferencePolicy(policy, policy.initial_parameters(0))
    assert trained.act(space.sample(), ())[0] in DISCRETE


@pytest.mark.parametrize(
    "space",
    [
        BOX(-np.inf, np.inf, (84, 84), np.float32),
        BOX(0, 255, (6, 84, 3), np.uint8),
        BOX(0, 255, (128,), np.uint8),
        BOX(np.zeros((9, 9), np.float32), np.arange(1, 82, dtype=np.float32).reshape(9, 9)),
        BOX(-3e38, 3e38, (9, 9), np.float32),
        BOX(0.0, 1.0, (), np.float32),
        BOX(0, 1, (9, 9, 1, 1, 1), np.float32),
        gym.spaces.MultiBinary((2, 9)),
    ],
    ids=str,
)
def test_all_other_arrays_are_vectors(space):
    reading = reading_of(space)
    assert (reading.kind, reading.shape) == ("vector", (math.prod(space.shape),))
    assert f"vector of {math.prod(space.shape)} number" in str(reading)
    policy = Policy(space, DISCRETE)
    trained = InferencePolicy(policy, policy.initial_parameters(0))
    assert trained.act(np.asarray(space.sample()), ())[0] in DISCRETE


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=4), st.sampled_from(["uint8", "float32", "bool"]))
def test_no_number_of_an_image_is_lost_and_the_sides_are_the_largest_pair(shape, dtype):
    space = BOX(0, 1, tuple(shape), np.dtype(dtype).type)
    reading, smaller = reading_of(space), [min(pair) for pair in itertools.pairwise(shape)]
    assert reading.image == (max(smaller) >= 7)
    assert math.prod(reading.shape) == math.prod(shape)
    if reading.image:
        assert min(reading.shape[:2]) == max(smaller)
        assert reading.axes[0] == smaller.index(max(smaller))


def _features(space, observations):
    """The input of the first layer of a policy's network."""
    from rlab.policies.backbones import preprocess

    return preprocess(tf.constant(observations), reading_of(space), of_pixels=True).numpy()


def test_the_dtype_and_the_layout_of_an_image_change_nothing_that_is_seen():
    pixels = np.random.default_rng(0).integers(0, 2, (5, 3, 12, 8))
    first = BOX(0, 255, (3, 12, 8), np.uint8)
    expected = _features(first, (255 * pixels).astype(np.uint8))
    assert expected.shape == (5, 12, 8, 3)
    np.testing.assert_array_equal(_features(BOX(-1.0, 1.0, (3, 12, 8)), (2.0 * pixels - 1.0).astype("f4")), expected)
    np.testing.assert_array_equal(_features(gym.spaces.MultiBinary((3, 12, 8)), pixels.astype(np.int8)), expected)
    last = np.ascontiguousarray(np.moveaxis(pixels, 1, -1)).astype(bool)
    np.testing.assert_array_equal(_features(BOX(0, 1, (12, 8, 3), bool), last), expected)


def test_images_are_seen_about_their_background_or_each_by_its_own_pixels():
    from rlab.policies.backbones import preprocess

    space = BOX(10, 210, (3, 8, 9), np.uint8)
    pixels = np.random.default_rng(0).integers(10, 211, (5, 3, 8, 9))
    last = np.moveaxis(pixels, 1, -1)
    about = preprocess(tf.constant(pixels.astype(np.uint8)), dataclasses.replace(reading_of(space), background=60.0))
    np.testing.assert_allclose(about, (last - 60.0) / 50.0, rtol=1e-6, atol=1e-6)
    alone = preprocess(tf.constant(pixels.astype(np.uint8)), reading_of(space))
    mean, deviation = (part(last, axis=(1, 2, 3), keepdims=True) for part in (np.mean, np.std))
    np.testing.assert_allclose(alone, (last - mean) / deviation, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("background", [60.0, None])
def test_a_policy_keeps_the_background_that_it_was_made_for(tmp_path, background):
    space = BOX(0, 255, (24, 24, 1), np.uint8)
    policy = Policy(space, DISCRETE, background=background)
    run = _saved(tmp_path / "run", policy)
    loaded = load_policy(run).policy
    assert loaded.reading == policy.reading
    assert loaded.of_observations(BOX(0, 255, (30, 30, 1), np.uint8)).reading.background == background
    assert policies.build(space, DISCRETE, read_architecture(run), background=7.0).reading.background == background
    shown = np.full((1, 1, 24, 24, 1), 60, np.uint8)
    shown[..., 3:9, 3:9, :] = 200
    given = tf.constant(policy.initial_parameters(0)), shown, (), tf.zeros((1, 1))
    np.testing.assert_array_equal(loaded.apply(*given)[0].values, policy.apply(*given)[0].values)


@pytest.mark.parametrize("side", [7, 17, 18, 19, 20, 35, 36])
def test_the_advice_names_what_really_fits(side):
    space = BOX(0, 255, (side, side + 3, 1), np.uint8)
    with pytest.raises(BadInputError, match="would fit") as refused:
        Policy(space, DISCRETE, "mlp")
    line = str(refused.value)
    assert "\n" not in line
    advised = set(line.rpartition("; ")[2].removesuffix(" would fit").split(", "))
    for name in ("cnn", "nature", "small-cnn", "tiny-cnn"):
        try:
            built = Policy(space, DISCRETE, name)
        except BadInputError:
            built = None
        assert (built is not None) == (name in advised), name
    assert {"lstm", "highway", "tiny-cnn"} <= advised


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Dict(a=VECTOR),
        gym.spaces.Tuple([VECTOR]),
        gym.spaces.Text(5),
        gym.spaces.Graph(VECTOR, None),
        gym.spaces.Sequence(VECTOR),
        gym.spaces.OneOf([VECTOR, DISCRETE]),
        gym.spaces.Discrete(10**9),
        gym.spaces.MultiDiscrete([10**6, 10**6]),
        BOX(0.0, 1.0, (0,), np.float32),
    ],
    ids=lambda space: type(space).__name__,
)
def test_spaces_that_are_not_served_are_refused_in_a_line(space):
    for spaces, what in (((space, DISCRETE), "observations"), ((VECTOR, space), "actions")):
        with pytest.raises(BadInputError, match=rf"no .* {what} of ") as refused:
            policies.build(*spaces)
        assert "\n" not in str(refused.value)


def test_several_numbers_are_one_hot_each():
    space = gym.spaces.MultiDiscrete([3, 2], start=[1, 0])
    np.testing.assert_array_equal(_features(space, np.array([[1, 1], [3, 0]])), [[1, 0, 0, 0, 1], [0, 0, 1, 1, 0]])
    policy = Policy(space, DISCRETE)
    trained = InferencePolicy(policy, policy.initial_parameters(0))
    assert trained.act(np.array([3, 1]), ())[0] in DISCRETE
    with pytest.raises(BadInputError, match=r"entry \[0\] of the observation is 0"):
        trained.act(np.array([0, 1]), ())


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32, np.int64])
def test_choices_of_any_integers_are_one_hot(dtype):
    one = gym.spaces.Discrete(3, start=1, dtype=dtype)
    np.testing.assert_array_equal(_features(one, np.array([1, 3], dtype)), [[1, 0, 0], [0, 0, 1]])
    two = gym.spaces.MultiDiscrete([3, 2], dtype=dtype)
    np.testing.assert_array_equal(_features(two, np.array([[1, 1]], dtype)), [[0, 1, 0, 0, 1]])


def test_spaces_of_other_integers_are_told_apart():
    made = Policy(BOX(0, 1, (2,)), gym.spaces.MultiDiscrete([3, 4]))
    other = gym.spaces.MultiDiscrete([3, 4], dtype=np.int32)
    with pytest.raises(BadInputError, match=r"MultiDiscrete\(\[3 4\]\) of int32, not of MultiDiscrete\(\[3 4\]\)$"):
        require_same_spaces(made, BOX(0, 1, (2,)), other)


def test_small_bounds_are_told_apart():
    """gymnasium takes all below 1e-8 for 0."""
    made = Policy(BOX(0, 1, (2,)), BOX(-1e-9, 1e-9, (1,), np.float64))
    with pytest.raises(BadInputError, match="the policy does not fit"):
        require_same_spaces(made, BOX(0, 1, (2,)), BOX(-1e-9, 9e-9, (1,), np.float64))
    require_same_spaces(made, BOX(0, 1, (2,)), BOX(-1e-9, 1e-9, (1,), np.float64))


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (BOX(-np.inf, np.inf, (20, 21, 3), np.float32), True),
        (BOX(np.zeros((9, 9), np.float32), np.arange(1, 82, dtype=np.float32).reshape(9, 9)), True),
        (BOX(0, 255, (20, 22, 3), np.uint8), False),
        (BOX(-np.inf, np.inf, (40,), np.float32), False),
    ],
)
def test_an_image_without_common_bounds_is_said_to_be_a_vector(space, said, capsys):
    for _ in range(2):
        build(space, DISCRETE)
    words = f"are taken as a vector of {math.prod(space.shape)} numbers"
    assert capsys.readouterr().err.count(words) == said


@pytest.mark.parametrize("name", ["vbn-cnn", "vbn-small-cnn"])
def test_only_who_measures_a_reference_batch_is_given_a_backbone_that_needs_one(name):
    image = BOX(0, 255, (40, 40, 1), np.uint8)
    with pytest.raises(BadInputError, match=f"only snes measures; {name.removeprefix('vbn-')} is"):
        policies.build(image, DISCRETE, name)
    assert policies.build(image, DISCRETE, name, measures_reference=True).uses_reference_batch


@pytest.mark.parametrize(
    ("space", "observation", "message"),
    [
        (VECTOR, [[0.0, 0.0, 0.0], [0.0, np.nan, 0.0]], r"entry \[1, 1\] of the observation is nan: it must be finite"),
        (VECTOR, [0.0, 0.0, -np.inf], r"entry \[2\] of the observation is -inf"),
        (VECTOR, [0.0, 0.0, 1e300], r"entry \[2\] of the observation is 1e\+300"),
        (VECTOR, [0.0, 0.0], r"shape \(3,\) or \[B, 3\], not \(2,\)"),
        (VECTOR, [[[0.0, 0.0, 0.0]]], "not \\(1, 1, 3\\)"),
        (VECTOR, ["a", "b", "c"], "must be float32, not <U1"),
        (VECTOR, [[0.0], [1.0, 2.0]], "must be arrays of Box"),
        (BOX(0, 255, (2,), np.uint8), [0.5, 1.0], "must be uint8, not float64"),
        (BOX(0, 255, (2,), np.uint8), [0, 256], r"entry \[1\] of the observation is 256"),
        (gym.spaces.Discrete(3, start=1), 0, r"entry \[\] of the observation is 0, which is not of Discrete"),
        (gym.spaces.Discrete(3, start=1), [1, 4], r"entry \[1\] of the observation is 4"),
    ],
)
def test_observations_that_are_none_are_refused_in_a_line(space, observation, message):
    with pytest.raises(BadInputError, match=message) as refused:
        as_batch(observation, space)
    assert "\n" not in str(refused.value)


def test_a_policy_acts_as_it_was_trained_unless_told_otherwise(tmp_path):
    policy = Policy(VECTOR, BOX(10.0, 20.0, (1,), np.float32))
    params, rest = policy.initial_parameters(0), np.zeros((50, 3))
    for flag in (True, False):
        trained = InferencePolicy(policy, params, deterministic=flag)
        spread = {name: trained.act(rest, (), None, name)[0].std() for name in (None, True, False)}
        assert spread[True] == 0.0 < 1.0 < spread[False]
        assert (spread[None] == 0.0) == flag
    with pytest.raises(BadInputError, match="50 observations need 50 resets, not 2"):
        trained.act(rest, (), np.zeros(2))
    memory = InferencePolicy(Policy(VECTOR, DISCRETE, "rnn"), params)
    for state in ((), memory.initial_state(2)):
        with pytest.raises(BadInputError, match="memory has arrays of"):
            memory.act(np.zeros(3), state)


def test_a_policy_acts_on_after_two_to_the_31_steps():
    policy = Policy(VECTOR, DISCRETE)
    trained = InferencePolicy(policy, policy.initial_parameters(0), seed=2**31 - 1)
    trained.count = 2**31 - 1
    for _ in range(2):
        assert trained.act(np.zeros(3), ())[0] in DISCRETE


def _saved(run, policy, change=None, remove=(), **options):
    """A run with nothing but a policy, whose description is then changed."""
    import safetensors.numpy

    (run / "policy").mkdir(parents=True)
    save_architecture(run, policy, **options)
    path = run / "policy" / "architecture.json"
    data = json.loads(path.read_text()) | (change or {})
    data = {key: part for key, part in data.items() if key not in (*remove, "sha256")}
    known = {"sha256": policy_files.digest(data)} if "reading" in data else {}
    path.write_text(json.dumps(data | known))
    parameters = policy.named(policy.initial_parameters(0))
    safetensors.numpy.save_file(parameters, run / "policy" / "weights.safetensors")
    return run


def test_a_run_of_0_1_says_nothing_and_keeps_its_rules(tmp_path):
    image, box = BOX(0.0, 1.0, (9, 9), np.float32), BOX(10.0, 20.0, (1,), np.float32)
    old = Policy(image, box, scale_actions=False, reading=first_reading_of(image))
    assert old.backbone == "mlp"
    run = _saved(tmp_path / "old", old, remove=("scale_actions", "reading", "deterministic"))
    before = (run / "policy" / "architecture.json").read_bytes()
    loaded = load_policy(run)
    assert loaded.act(np.ones((9, 9)), (), None, True)[0] == 10.0  # about 0, cut off
    assert loaded.deterministic is False
    (run / "config.json").write_text(json.dumps({"agent": "snes", "config": {}}))
    assert load_policy(run).deterministic is True
    again = policies.build(image, box, read_architecture(run), initial_std=0.5)
    assert (again.scale_actions, again.backbone, again.initial_std) == (False, "mlp", 0.5)
    save_architecture(run, again)
    assert (run / "policy" / "architecture.json").read_bytes() == before


def test_a_run_goes_on_by_its_own_description(tmp_path):
    box, other = BOX(10.0, 20.0, (1,), np.float32), BOX(10.0, 30.0, (1,), np.float32)
    run = _saved(tmp_path / "new", Policy(VECTOR, box, "lstm"), deterministic=True)
    loaded = load_policy(run)
    assert loaded.deterministic is True
    assert loaded.act(np.zeros(3), loaded.initial_state())[0] == pytest.approx(15.0, abs=0.5)
    assert policies.build(VECTOR, box, read_architecture(run)).backbone == "lstm"
    with pytest.raises(BadInputError, match=r"actions of Box\(10.0, 30.0.*, not of Box\(10.0, 20.0"):
        policies.build(VECTOR, other, read_architecture(run))
    (run / "policy" / "architecture.json").unlink()
    with pytest.raises(BadInputError, match="missing, beside weights"):
        read_architecture(run)


@pytest.mark.parametrize(
    "change",
    [
        {"reading": {"kind": "image", "axes": [0, 1], "low": 0, "high": 1}},
        {"reading": {"kind": "one-hot"}},
        {"reading": {"kind": "image", "axes": [0, 1], "low": 0, "high": 255, "background": 256}},
        {"reading": {"kind": "image", "axes": [0, 1], "low": 0, "high": 255, "background": "grey"}},
        {"reading": 3},
        {"deterministic": "yes"},
    ],
)
def test_a_description_that_cannot_be_is_damaged(tmp_path, change):
    seen = BOX(0, 255, (24, 24), np.uint8) if "background" in str(change) else VECTOR
    run = _saved(tmp_path / "run", Policy(seen, DISCRETE), change)
    with pytest.raises(BadInputError, match="damaged"):
        load_policy(run)


@pytest.mark.parametrize(
    "space",
    [
        BOX(-np.inf, np.inf, (2,), np.int32),
        HALF_BOUNDED,
        BOX(0, 1, (), bool),
        BOX(0, 2**64 - 1, (2,), np.uint64),
        BOX(-(2**63), 2**63 - 2, (1,), np.int64),
        gym.spaces.MultiBinary((2, 3)),
        gym.spaces.MultiDiscrete([[3, 2], [2, 2]]),
        gym.spaces.MultiDiscrete([3, 2], dtype=np.int8, start=[-2, 5]),
        gym.spaces.Discrete(4, start=2, dtype=np.int16),
    ],
    ids=str,
)
def test_spaces_and_what_is_unbounded_in_them_survive_json(space):
    again = space_from_json(json.loads(json.dumps(space_to_json(space))))
    assert again == space
    assert again.dtype == space.dtype
    for name in ("low", "high", "bounded_below", "bounded_above"):
        if isinstance(space, BOX):
            np.testing.assert_array_equal(getattr(again, name), getattr(space, name))


AGENTS = [
    ("A3C", {"workers": 1, "envs_per_worker": 16, "learning_rate": 2e-3}, BOX(10.0, 20.0, ()), 12.0, 8_000),
    ("TRPO", {"batch_size": 256, "max_kl": 0.1}, BOX(0.0, 512.0, (2,), np.float64), 400.0, 5_120),
    (
        "RPG",
        {"episodes_per_batch": 32, "learning_rate": 2e-3, "baseline": "constant", "initial_std": 0.4},
        BOX(-3, -1, (1, 2)),
        -1.4,
        12_000,
    ),
    (
        "SNES",
        {"population": 32, "sigma": 0.05, "learning_rate": 0.03, "decay_learning_rate": True},
        BOX(-1000, 1000, (1,), np.int64),
        600,
        16_000,
    ),
]


@pytest.mark.parametrize(("name", "config", "space", "target", "steps"), AGENTS, ids=[case[0] for case in AGENTS])
def test_every_agent_finds_a_target_between_bounds(name, config, space, target, steps, tmp_path):
    kind = getattr(agents, name)
    factory = functools.partial(envs.make, lambda: toys.Target(space, target))
    agent = kind(kind.Config(**config), env=factory, policy="mlp")
    agent.train(tmp_path / "run", steps)
    policy = rlab.load_policy(tmp_path / "run")
    found, _ = policy.act(np.ones(1), policy.initial_state(), deterministic=True)
    assert space.contains(np.asarray(found))
    span = float(np.max(space.high) - np.min(space.low))
    assert float(np.abs(np.asarray(found, np.float64) - target).mean()) < 0.12 * span
    path = tmp_path / "run" / "policy" / "architecture.json"
    before = path.read_bytes()
    kind.resume(tmp_path / "run", factory, steps + 600)
    assert path.read_bytes() == before
    other = functools.partial(envs.make, lambda: toys.Target(BOX(0.0, 7.0, space.shape), 1.0))
    with pytest.raises(BadInputError, match="the policy does not fit the environment: actions of"):
        kind.resume(tmp_path / "run", other, steps + 2_000)

"""The project's own environments: gymnasium's checker, one against many, the rules of each, the poles' mechanics."""

import math
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from scipy.integrate import solve_ivp

import envs
from envs.batched import ROWS
from envs.poles import DoublePole, SinglePole
from rlab.errors import BadInputError

OWN = [
    "TMaze",
    "NBack",
    "DelayedRecall",
    "DeepSea",
    "Catch",
    "CartPoleNoVel-v1",
    "PendulumNoVel-v1",
    "SinglePoleNoVel",
    "DoublePoleNoVel",
]


@pytest.mark.parametrize("name", OWN)
def test_gymnasium_finds_no_fault(name):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*symmetric and normalized space.*")  # so is gymnasium's own Pendulum
        check_env(gym.make(name).unwrapped)


@pytest.mark.parametrize("name", [*OWN, "CartPole-v1"])
def test_many_copies_play_what_single_ones_play(name):
    """Row i under seed s is the single environment under seed s + i, episode after episode."""
    options = {"corridor": 3} if name == "TMaze" else {}
    B, many, ones = 3, envs.make(name, 3, 7, **options), [gym.make(name, **options) for _ in range(3)]
    seen, _ = many.reset()
    np.testing.assert_array_equal(seen, [one.reset(seed=7 + i)[0] for i, one in enumerate(ones)])
    many.action_space.seed(0)
    ends = 0
    for _ in range(450):
        actions = many.action_space.sample()
        seen, rewards, terminated, truncated, info = many.step(actions)
        for i in range(B):
            one = ones[i].step(actions[i])
            ended = terminated[i] | truncated[i]
            np.testing.assert_allclose(info["final_obs"][i] if ended else seen[i], one[0], rtol=1e-6)
            assert (rewards[i], terminated[i], truncated[i]) == (pytest.approx(one[1], abs=1e-9), one[2], one[3])
            if ended:
                ends += 1
                if "is_success" in one[4]:
                    assert info["final_info"]["is_success"][i] == one[4]["is_success"]
                np.testing.assert_array_equal(seen[i], ones[i].reset()[0])
    assert ends > 0


@pytest.mark.parametrize("name", OWN)
def test_every_one_can_be_filmed(name):
    filmed = envs.make_filmed(name, 0)
    filmed.env.reset()
    filmed.env.action_space.seed(1)
    frames = [filmed.frame()]
    for _ in range(8):
        filmed.env.step(filmed.env.action_space.sample())
        frames.append(filmed.frame())
    assert {(frame.dtype, frame.ndim, frame.shape[2]) for frame in frames} == {(np.dtype(np.uint8), 3, 3)}
    assert any((frame != frames[0]).any() for frame in frames)


@pytest.mark.parametrize(
    ("name", "whole", "kept"),
    [("CartPoleNoVel-v1", "CartPole-v1", [0, 2]), ("PendulumNoVel-v1", "Pendulum-v1", [0, 1])],
)
def test_without_velocities_it_is_the_same_task(name, whole, kept):
    ours, theirs = gym.make(name), gym.make(whole)
    assert ours.spec.max_episode_steps == theirs.spec.max_episode_steps
    ours_seen, theirs_seen = ours.reset(seed=3)[0], theirs.reset(seed=3)[0]
    theirs.action_space.seed(0)
    for _ in range(30):
        np.testing.assert_allclose(ours_seen, theirs_seen[kept], rtol=1e-5, atol=1e-6)
        action = theirs.action_space.sample()
        ours_seen, *ours_rest = ours.step(action)
        theirs_seen, *theirs_rest = theirs.step(action)
        assert ours_rest[0] == pytest.approx(theirs_rest[0], rel=1e-6)
        assert ours_rest[1:3] == theirs_rest[1:3]
        if ours_rest[1]:
            break


@pytest.mark.parametrize("size", [2, 5])
def test_the_deep_sea_by_hand(size):
    env = gym.make("DeepSea", size=size)
    for left_at in range(size + 1):  # size: never
        seen, _ = env.reset(seed=0)
        assert seen.tolist() == [-1.0, -1.0]
        for row in range(size):
            action = int(row != left_at)
            seen, reward, ended, _, info = env.step(action)
            treasure = row + 1 == size == left_at
            assert reward == pytest.approx(treasure - 0.01 / size * action)
            assert ended == (row + 1 == size)
            column = row + 1 if row < left_at else max(left_at - 1, 0) + row - left_at
            np.testing.assert_allclose(seen, [2 * (row + 1) / size - 1, 2 * column / size - 1], atol=1e-6)
        assert info["is_success"] == (left_at == size)
    with pytest.raises(BadInputError, match="size must be a whole number, at least 2, not 1"):
        envs.make("DeepSea", size=1)


def test_catch_by_hand():
    env, caught = gym.make("Catch", size=6), 0
    for seed in range(30):
        seen, _ = env.reset(seed=seed)
        column = seen[0, ::4, 0].argmax()
        for row in range(6):
            cells = seen[::4, ::4, 0] == 255  # cells are of 4×4 pixels
            np.testing.assert_array_equal(seen[..., 0] == 255, cells.repeat(4, 0).repeat(4, 1))
            if row == 5:
                break
            assert cells.sum() == 2
            assert cells[row, column]
            action = 1 + int(np.sign(column - cells[5].argmax())) if seed % 2 else 1
            seen, reward, ended, _, info = env.step(action)
            assert ended == (row == 4)
            assert ended or reward == 0.0
        assert reward == (1.0 if info["is_success"] else -1.0)
        assert info["is_success"] == (cells.sum() == 1)  # ball and paddle in one cell
        caught += reward == 1.0
        assert info["is_success"] or seed % 2 == 0  # who follows the ball catches it
    assert 15 < caught < 30


@pytest.mark.parametrize("corridor", [1, 4])
def test_the_t_maze_by_hand(corridor):
    for seed in range(4):
        env = gym.make("TMaze", corridor=corridor)
        sign, _ = env.reset(seed=seed)
        assert sign.tolist() in ([0, 1, 1], [1, 1, 0])
        right, wrong = (0, 2) if sign.tolist() == [0, 1, 1] else (2, 0)
        assert env.step(3)[1] == env.step(0)[1] == pytest.approx(-0.1)  # into the west wall, and the north one
        for cell in range(1, corridor + 1):
            seen, reward, ended, _, _ = env.step(1)
            assert (reward, ended) == (0.0, False)
            assert seen.tolist() == ([0, 1, 0] if cell == corridor else [1, 0, 1])
        assert env.step(1)[1] == pytest.approx(-0.1)  # the east wall
        _, reward, ended, _, info = env.step(right if seed % 2 else wrong)
        assert (reward, ended, info["is_success"]) == ((4.0, True, True) if seed % 2 else (-0.1, True, False))


@pytest.mark.parametrize("seed", range(4))
def test_n_back_by_hand(seed):
    env = gym.make("NBack", n=2, k=3, length=6)
    seen, _ = env.reset(seed=seed)
    shown, rewards = [int(seen.argmax())], []
    for t in range(6):
        answer = shown[t - 2] if t >= 2 else 0
        seen, reward, ended, _, info = env.step(answer if t != 4 else (answer + 1) % 3)
        shown.append(int(seen.argmax()))
        rewards.append(reward)
        assert ended == (t == 5)
    assert rewards == [0, 0, 1, 1, 0, 1]
    assert not info["is_success"]


def test_delayed_recall_by_hand():
    env = gym.make("DelayedRecall", k=3, delay=2)
    seen, _ = env.reset(seed=5)
    symbol = int(seen.argmax())
    history = [env.step(0) for _ in range(3)]
    assert [step[0].tolist() for step in history] == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert env.step(symbol)[1:3] == (1.0, True)


@pytest.mark.parametrize("poles", [SinglePole, DoublePole])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_poles_against_a_high_precision_integration(poles, seed):
    """Wieland's equations written anew, one pole at a time, and integrated to a relative error of 1e-12."""
    rows = poles()
    generator = np.random.default_rng(seed)
    state = rows.begin(generator) + generator.normal(0.0, 0.1, 2 + 2 * len(rows.masses))
    state[1] = 2.0  # friction has no kink while the cart keeps its direction

    def slopes(_, s, force):
        x_dot, forces, masses = s[1], 0.0, 0.0
        for m, length, th, om in zip(rows.masses, rows.half_lengths, s[2::2], s[3::2], strict=True):
            forces += m * length * om**2 * math.sin(th)
            forces += 0.75 * m * math.cos(th) * (2e-6 * om / (m * length) - 9.8 * math.sin(th))
            masses += m * (1 - 0.75 * math.cos(th) ** 2)
        x_acc = (force - 5e-4 * np.sign(x_dot) + forces) / (1.0 + masses)
        out = [x_dot, x_acc]
        for m, length, th, om in zip(rows.masses, rows.half_lengths, s[2::2], s[3::2], strict=True):
            out += [om, -3 / (4 * length) * (x_acc * math.cos(th) - 9.8 * math.sin(th) + 2e-6 * om / (m * length))]
        return out

    for _ in range(10):
        action = generator.uniform(-1.0, 1.0, 1)
        exact = solve_ivp(slopes, (0.0, 0.02), state, "DOP853", args=(10.0 * action[0],), rtol=1e-12, atol=1e-12)
        state = rows.step(state[None], action[None]).states[0]
        np.testing.assert_allclose(state, exact.y[:, -1], rtol=1e-4, atol=1e-5)
        state = exact.y[:, -1]


def test_a_time_limit_can_be_longer_and_shorter():
    for limit in (3, 40):
        env = envs.make("NBack", 2, 0, length=20, max_episode_steps=limit)
        env.reset()
        lengths = next(
            info["episode"]["l"] for *_, info in (env.step(np.zeros(2, int)) for _ in range(50)) if "episode" in info
        )
        assert (lengths == min(limit, 20)).all()
        assert env.episode_limit == limit


def test_limits_that_are_known():
    assert envs.make("TMaze", corridor=4).episode_limit == 100
    # Its own limit and the wrapper's: the sooner one ends the episode.
    assert [envs.make("TMaze", corridor=4, max_episode_steps=n).episode_limit for n in (50, 1000)] == [50, 100]
    assert envs.make("CartPoleNoVel-v1").episode_limit == 500
    assert envs.make("Acrobot-v1").episode_limit == 500
    assert envs.make("Pong").episode_limit == 27_000


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("TMaze", {"corridor": 0}, "corridor must be a whole number, at least 1, not 0"),
        ("TMaze", {"corridor": 2.5}, "corridor must be"),
        ("NBack", {"n": 0}, "n must be"),
        ("NBack", {"n": 5, "length": 5}, "length must be a whole number, at least 6"),
        ("DelayedRecall", {"k": 1}, "k must be"),
        ("TMaze", {"coridor": 3}, "did you mean 'corridor'"),
    ],
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(BadInputError, match=message):
        envs.make(name, **options)


def test_the_lunar_lander_needs_box2d_or_flies():
    try:
        env = envs.make("LunarLanderNoVel-v3", 2, 0)
    except BadInputError as error:
        assert "ox2" in str(error)  # noqa: PT017
        return
    assert env.reset()[0].shape == (2, 5)


def test_every_own_environment_is_tested_here():
    assert set(OWN) == set(ROWS) - {"CartPole-v0", "CartPole-v1"}
    assert set(OWN) <= set(envs.names())

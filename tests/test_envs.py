import functools
import subprocess
import sys

import numpy as np
import pytest
import toys
from conftest import ROOT
from gymnasium.vector import AutoresetMode, VectorEnv

import envs
from rlab.errors import BadInputError


@pytest.mark.parametrize("name", ["Pong", "pong", "PONG", "ALE/Pong-v5"])
def test_a_game_has_many_spellings(name):
    assert envs.resolve(name) == "Pong"


@pytest.mark.parametrize(
    ("name", "canonical"),
    [("ms_pacman", "MsPacman"), ("MsPacman", "MsPacman"), ("Q*bert", "Qbert"), ("cartpole-v1", "CartPole-v1")],
)
def test_canonical_names(name, canonical):
    assert envs.resolve(name) == canonical


@pytest.mark.parametrize(
    ("name", "near"), [("Pongg", "'Pong'"), ("breakot", "'Breakout'"), ("CartPol", "'CartPole-v1'")]
)
def test_an_unknown_name_gets_the_nearest(name, near):
    with pytest.raises(BadInputError, match=near):
        envs.make(name)


@pytest.mark.parametrize(
    "factory",
    [
        functools.partial(envs.make, "Pong", max_frames=200),
        functools.partial(envs.make, "CartPole-v1"),
        functools.partial(envs.make, "CartPole-v1", asynchronous=True),
        functools.partial(envs.make, "Acrobot-v1", max_episode_steps=20),
        functools.partial(envs.make, toys.limited_constant),
        functools.partial(envs.make, "Swimmer-v5", max_episode_steps=20),
    ],
    ids=["atari", "own vector", "async", "sync", "factory", "mujoco"],
)
def test_every_kind_keeps_the_promises(factory):
    env = factory(num_envs=3, seed=1)
    assert isinstance(env, VectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    observations, _ = env.reset()
    assert observations.shape == (3, *env.single_observation_space.shape)
    env.action_space.seed(0)
    length, score = np.zeros(3, int), np.zeros(3)
    ends = np.zeros(3, int)
    for _ in range(600):
        observations, rewards, terminated, truncated, info = env.step(env.action_space.sample())
        length += 1
        score += rewards
        for row in np.flatnonzero(terminated | truncated):
            assert info["final_obs"].shape == observations.shape
            assert info["final_obs"].dtype == observations.dtype
            assert info["episode"]["l"][row] == length[row]
            assert info["episode"]["r"][row] == pytest.approx(score[row], abs=1e-4)
            length[row] = score[row] = 0
            ends[row] += 1
        if ends.min() >= 2:  # the second episode's statistics must be right too
            break
    else:
        pytest.fail("two episodes did not end")
    assert rewards.shape == (3,)
    env.close()


@pytest.mark.parametrize("name", ["Pong", "CartPole-v1", "Acrobot-v1"])
def test_the_seed_of_make_fixes_the_episodes(name):
    def play(seed):
        env = envs.make(name, 2, seed)
        frames = [env.reset()[0]]
        frames += [env.step(np.array([t % 2, (t + 1) % 2]))[0] for t in range(20)]
        env.close()
        return np.stack(frames)

    np.testing.assert_array_equal(play(3), play(3))
    assert (play(3) != play(4)).any()


def test_cartpole_at_a_boundary_shows_both_observations():
    env = envs.make("CartPole-v1", 2, 0)
    env.reset()
    for _ in range(100):
        observations, _, terminated, _, info = env.step(np.zeros(2, int))
        if terminated.any():
            row = int(np.flatnonzero(terminated)[0])
            assert abs(info["final_obs"][row, 2]) > 0.2  # the pole that fell
            assert np.abs(observations[row]).max() <= 0.05  # a fresh start
            return
    pytest.fail("no pole fell")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_last_reward_may_be_seen(asynchronous):
    with_it, without = (
        envs.make("Acrobot-v1", 2, 0, max_episode_steps=5, asynchronous=asynchronous, observe_reward=observed)
        for observed in (True, False)
    )
    first, _ = with_it.reset()
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, np.hstack([without.reset()[0], np.zeros((2, 1), np.float32)]))
    assert with_it.single_observation_space.shape == (7,)
    assert with_it.episode_limit == 5
    for t in range(7):
        observations, rewards, _, truncated, info = with_it.step(np.zeros(2, int))
        plain, _, _, _, plain_info = without.step(np.zeros(2, int))
        assert (rewards == -1.0).all()
        assert truncated.all() == (t == 4)
        last = 0.0 if t == 4 else -1.0  # the observation after an end is an episode's first
        np.testing.assert_array_equal(observations, np.hstack([plain, np.full((2, 1), last, np.float32)]))
        assert with_it.observation_space.contains(observations)
        if t == 4:
            np.testing.assert_array_equal(info["final_obs"][:, :6], plain_info["final_obs"])
            assert (info["final_obs"][:, 6] == -1.0).all()
    with_it.close()
    without.close()


def test_rewards_are_clipped_and_the_score_is_true():
    def play(**options):
        env = envs.make("MsPacman", 1, 0, **options)
        env.reset()
        rewards = []
        for t in range(2000):
            *_, reward, terminated, truncated, info = env.step(np.array([1 + t // 10 % 4]))
            rewards.append(float(reward[0]))
            if (terminated | truncated)[0]:
                return rewards, float(info["episode"]["r"][0])
        raise AssertionError("the game did not end")

    clipped, score = play()
    raw, raw_score = play(clip_rewards=False)
    assert set(clipped) <= {0.0, 1.0}
    assert score == raw_score == sum(raw) > sum(clipped)


def test_preprocessing_is_that_of_dqn():
    env = envs.make("Pong", 2, 0)
    observations, _ = env.reset()
    assert observations.shape == (2, 4, 84, 84)
    assert observations.dtype == np.uint8
    *_, info = env.step(np.zeros(2, int))
    first = info["episode_frame_number"]
    *_, info = env.step(np.zeros(2, int))
    assert (info["episode_frame_number"] - first == 4).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name_or_factory": "Pong", "num_envs": 0}, "at least 1"),
        ({"name_or_factory": "Pong", "sticky": 0.1}, "did you mean 'sticky_actions'"),
        ({"name_or_factory": "Pong", "sticky_actions": 2.0}, "probability"),
        ({"name_or_factory": "Pong", "frame_size": 0}, "at least 1"),
        ({"name_or_factory": "Pong", "max_frames": 3_000_000_000}, "max_frames"),
        ({"name_or_factory": "Pong", "observe_reward": True}, "are vectors"),
        ({"name_or_factory": "FrozenLake-v1", "map_name": "9x9"}, "cannot be made"),
        ({"name_or_factory": "CartPole-v1", "max_episode_steps": -3}, "at least 1"),
        ({"name_or_factory": "CartPole-v1", "max_episode_steps": True}, "at least 1, not True"),
        ({"name_or_factory": "Pong", "frame_skip": True}, "frame_skip must be a number, not True"),
        ({"name_or_factory": "Pendulum-v1", "g": False}, "g must be a number, not False"),
        ({"name_or_factory": "CartPole-v1", "corridor": 3}, "has no option 'corridor'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(BadInputError, match=message):
        envs.make(**arguments)


def test_a_filmed_game_is_the_played_one():
    filmed = envs.make_filmed("Pong", 5)
    filmed.env.reset()
    assert filmed.frame().shape == (210, 160, 3)
    pictures = []
    for t in range(60):
        filmed.env.step(np.array([2 + t // 10 % 2]))
        pictures.append(filmed.frame())
    grey = [picture.mean(axis=2) for picture in pictures]
    assert (grey[0] != grey[-1]).any()
    filmed.env.close()


def test_a_package_that_is_missing_is_named():
    code = "import sys; sys.modules['mujoco'] = None; import envs; envs.make('HalfCheetah-v5')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stderr.splitlines()[-1].startswith("rlab.errors.BadInputError")
    assert "from here, `pip install -e '.[mujoco]'`" in done.stderr


def test_every_listed_name_can_be_looked_up():
    assert all(envs.resolve(name) == name for name in envs.names())
    assert {"Pong", "Breakout", "CartPole-v1"} <= set(envs.names())


@pytest.mark.parametrize("name", ["CartPole-v1", "Acrobot-v1", toys.Recall])
def test_a_copy_rests_once_its_only_episode_has_ended(name):
    options = {"max_episode_steps": 30} if isinstance(name, str) else {}
    single = envs.make(name, 8, seed=3, single_episode=True, **options)
    endless = envs.make(name, 8, seed=3, **options)
    for seed in (5, 6):
        (seen, _), (expected, _) = single.reset(seed=seed), endless.reset(seed=seed)
        np.testing.assert_array_equal(seen, expected)
        over = np.zeros(8, bool)
        for _ in range(40):
            actions = single.action_space.sample()
            before = seen
            seen, rewards, terminated, truncated, info = single.step(actions)
            expected, whole, *ends, expected_info = endless.step(actions)
            ended = (ends[0] | ends[1]) & ~over
            np.testing.assert_array_equal(terminated | truncated, ended)
            np.testing.assert_array_equal(seen[~over & ~ended], expected[~over & ~ended])
            np.testing.assert_array_equal(rewards, np.where(over, 0.0, whole))
            np.testing.assert_array_equal(seen[over], before[over])
            if ended.any():
                for name_ in ("r", "l"):
                    np.testing.assert_array_equal(info["episode"][name_][ended], expected_info["episode"][name_][ended])
            over |= ended
        assert over.all()


@pytest.mark.parametrize(
    "name",
    [
        "PongNoFrameskip-v4",
        "Pong-v4",
        "Pong-v0",
        "PongDeterministic-v4",
        "ale/pong-v5",
        "ale_py:ALE/Pong-v5",
        "Pong-v5",
    ],
)
def test_the_ids_of_old_are_games(name, capsys):
    envs.games.say_convention.cache_clear()
    assert envs.resolve(name) == envs.resolve(name) == "Pong"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"{name}: played as 'Pong' with the usual preprocessing")
    assert ("sticky actions of 0.25" in said) == (not name.endswith("-v4"))
    assert envs.options(name) == envs.options("Pong")


def test_one_rank_speaks_for_all(capsys, monkeypatch):
    envs.games.say_convention.cache_clear()
    monkeypatch.setenv("PMIX_RANK", "1")  # srun's
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    assert envs.resolve("Pong-v4") == "Pong"
    assert capsys.readouterr().err == ""
    envs.games.say_convention.cache_clear()


def test_a_plain_name_is_played_without_a_word(capsys):
    assert [envs.resolve(name) for name in ("pong", "MsPacman", "CartPole-v1")] == ["Pong", "MsPacman", "CartPole-v1"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "name", ["ALE/Pong-ram-v5", "Pong-ram-v4", "Pong-ramNoFrameskip-v4", "MsPacman-ramDeterministic-v0"]
)
def test_the_consoles_memory_is_not_served(name):
    with pytest.raises(
        BadInputError, match=r"shows the console's memory \(RAM\), which is not served; '(Pong|MsPacman)' is"
    ):
        envs.make(name)


@pytest.mark.parametrize("name", ["ALE/Pong-v4", "Pong-v7", "PongSlow-v4"])
def test_ids_that_never_were_are_unknown(name):
    with pytest.raises(BadInputError, match="unknown environment"):
        envs.resolve(name)


@pytest.mark.parametrize("restorable", [False, True])
def test_a_lost_life_ends_an_episode_and_not_the_game(restorable):
    """The game is the one that is played without: the same pictures, the same score."""
    given = {"restorable": restorable, "noop_max": 0, "frame_size": 42}
    by_life, whole = (envs.make("Breakout", 1, 3, life_loss=flag, **given) for flag in (True, False))
    np.testing.assert_array_equal(by_life.reset()[0], whole.reset()[0])
    lives = 0
    for t in range(600):
        action = np.array([1 if t % 10 == 0 else 2 + t // 7 % 2])
        seen, reward, terminated, truncated, info = by_life.step(action)
        expected, same, over, _, whole_info = whole.step(action)
        np.testing.assert_array_equal(seen, expected)
        assert reward == same
        assert not truncated.any()
        if over:
            break
        if terminated:
            lives += 1
            assert not info["_episode"][0]
            np.testing.assert_array_equal(info["final_obs"], seen)
    assert lives == 4
    assert terminated[0]
    assert info["_episode"][0]
    assert info["episode"]["r"] == whole_info["episode"]["r"] > 0
    assert info["episode"]["l"] == whole_info["episode"]["l"]

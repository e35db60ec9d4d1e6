"""States that are saved and restored: what follows is the same to the bit."""

import functools

import gymnasium as gym
import numpy as np
import pytest
import toys

import envs
from rlab.errors import BadInputError, TrainingError

_STICKY = {"sticky_actions": 0.25, "life_loss": True, "frame_size": 42}


class Counted(gym.Wrapper):
    """A wrapper that may keep anything."""

    def __init__(self):
        super().__init__(toys.Matching())


class Walk(gym.Env):
    """A random walk that knows how to save itself."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0.0
        return np.float32([self.place]), {}

    def step(self, action):
        self.place += action + self.np_random.normal()
        return np.float32([self.place]), self.place, self.place > 5.0, False, {}

    def save_state(self):
        state = envs.batched.generator_state([self.np_random])
        return {"place": np.array(self.place), "generator": state}

    def load_state(self, arrays):
        self.place = float(arrays["place"])
        envs.batched.set_generator_state([self.np_random], arrays["generator"])


def _play(env, actions):
    return [_bytes(env.step(action)) for action in actions]


def _bytes(step):
    *arrays, info = step
    episodes = info.get("episode", {})
    return [array.tobytes() for array in arrays], [episodes[key].tolist() for key in ("r", "l") if key in episodes]


class Fragile(Walk):
    def step(self, action):
        if action == 1:
            raise ValueError("it broke")
        return super().step(action)


def test_a_fault_after_a_restored_state_names_the_step_of_its_episode():
    faults = []
    for restored in (False, True):
        env = envs.make(Fragile, 1, 0, restorable=True)
        env.reset()
        for _ in range(3):
            env.step(np.zeros(1, int))
        if restored:
            state = env.save_state()
            env.reset()
            env.load_state(state)
        with pytest.raises(TrainingError, match=r"step 4.*it broke") as fault:
            env.step(np.ones(1, int))
        faults.append(str(fault.value))
    assert faults[0] == faults[1]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("CartPole-v1", {}),
        ("CartPole-v1", {"sutton_barto_reward": True}),
        ("Acrobot-v1", {"max_episode_steps": 60}),
        ("Pendulum-v1", {}),
        ("MountainCar-v0", {}),
        ("MountainCarContinuous-v0", {"observe_reward": True}),
        ("TMaze", {"corridor": 3}),
        ("Pong", {"frame_size": 42}),
        ("Breakout", _STICKY),
        (Walk, {}),
    ],
)
def test_steps_after_a_restored_state_are_the_same(name, options):
    make = functools.partial(envs.make, name, 3, restorable=True, **options)
    env = make(seed=1)
    env.reset()
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(240)]
    _play(env, actions[:40])
    state = env.save_state()
    once = _play(env, actions[40:])
    env.load_state(state)
    assert _play(env, actions[40:]) == once
    other = make(seed=2)
    other.reset()
    other.load_state(state)
    assert _play(other, actions[40:]) == once


@pytest.mark.parametrize(("make", "named"), [("Blackjack-v1", "'Blackjack-v1'"), (Counted, "Counted")])
def test_an_environment_that_cannot_be_restored_is_named(make, named):
    with pytest.raises(BadInputError, match=f"the state of environment .*{named}.* cannot be saved and restored"):
        envs.make(make, restorable=True)
    assert envs.make(make).save_state() is None


def test_processes_of_their_own_are_not_saved():
    with pytest.raises(BadInputError, match="cannot be saved"):
        envs.make("Pendulum-v1", 2, asynchronous=True, restorable=True)


@pytest.mark.parametrize(
    ("game", "options"),
    [
        ("Pong", {}),
        ("Breakout", {}),
        ("Breakout", {"life_loss": True, "frame_size": 42, "frame_stack": 2}),
        ("Breakout", {"fire_reset": False, "max_pool": False, "frame_skip": 3, "full_actions": True}),
        ("Seaquest", {"clip_rewards": False, "max_frames": 900}),
    ],
)
def test_a_game_that_can_be_restored_is_the_same_game(game, options):
    fast, kept = (envs.make(game, 2, 3, noop_max=0, restorable=way, **options) for way in (False, True))
    assert fast.single_observation_space == kept.single_observation_space
    assert fast.single_action_space == kept.single_action_space
    ours, theirs = kept.reset()[0], fast.reset()[0]
    fast.action_space.seed(0)
    ends = 0
    for _ in range(400):
        assert np.abs(ours.astype(int) - theirs).max() <= 1
        actions = fast.action_space.sample()
        theirs, *expected, info = fast.step(actions)
        ours, *found, own_info = kept.step(actions)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
        ended = expected[1] | expected[2]
        ends += ended.sum()
        if ended.any():
            np.testing.assert_array_equal(own_info["episode"]["r"][ended], info["episode"]["r"][ended])
    assert ends > 0 or game == "Pong"


def test_a_state_saved_by_version_0_1_is_restored():
    """Version 0.1 counted with gymnasium's wrapper, which kept one array more."""
    env = envs.make("CartPole-v1", 2, 0)
    env.reset()
    _play(env, [np.ones(2, int)] * 5)
    state = env.save_state()
    np.testing.assert_array_equal(state["statistics/episode_returns"], [5.0, 5.0])
    np.testing.assert_array_equal(state["statistics/episode_lengths"], [5, 5])
    once = _play(env, [np.ones(2, int)] * 20)
    env.load_state(state | {"statistics/prev_dones": np.zeros(2, bool)})
    assert _play(env, [np.ones(2, int)] * 20) == once


def test_an_environment_in_a_foreign_wrapper_cannot_be_saved():
    inside = gym.vector.SyncVectorEnv([lambda: gym.make("Pendulum-v1")], autoreset_mode="SameStep")
    assert envs.contract.conform(inside, "inside").can_save
    assert not envs.contract.conform(gym.wrappers.vector.NormalizeReward(inside), "wrapped").can_save

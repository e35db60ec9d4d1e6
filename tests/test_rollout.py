import functools

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf
import toys

import envs
from rlab.ops import returns
from rlab.policies.acting import compile_acting
from rlab.policies.inference import InferencePolicy
from rlab.policies.policy import Policy
from rlab.sampling import rollout
from rlab.sampling.evaluation import play_episodes, summarize
from rlab.sampling.rollout import Collector


def _collect(factory, backbone="mlp", length=12, num_envs=3, rollouts=1, discount=0.9):
    env = factory(num_envs=num_envs, seed=0)
    policy = Policy(env.single_observation_space, env.single_action_space, backbone)
    params = policy.initial_parameters(1)
    collector = Collector(env, compile_acting(policy), policy.initial_state(num_envs), length, discount, seed=2)
    results = [collector.collect(params) for _ in range(rollouts)]
    env.close()
    return policy, params, [trajectory for trajectory, _ in results], [e for _, episodes in results for e in episodes]


@pytest.mark.parametrize("backbone", ["mlp", "lstm"])
def test_values_are_those_of_one_forward_pass_over_the_rollout(backbone):
    """The learner's unrolled pass must see what the actor saw: memory, resets and all, in the second rollout too."""
    factory = functools.partial(envs.make, toys.limited_constant)
    policy, params, trajectories, _ = _collect(factory, backbone, rollouts=2)
    for trajectory in trajectories:
        output, _ = policy.apply(tf.constant(params), trajectory.observations, trajectory.state, trajectory.resets)
        np.testing.assert_allclose(output.values, trajectory.values, atol=1e-5)


def test_flags_of_a_time_limit():
    _, _, (trajectory,), episodes = _collect(functools.partial(envs.make, toys.limited_constant))
    ends = np.zeros((12, 3), np.float32)
    ends[[4, 9]] = 1.0
    np.testing.assert_array_equal(trajectory.boundaries, ends)
    np.testing.assert_allclose(trajectory.discounts, 0.9)  # truncated, never terminated
    np.testing.assert_array_equal(trajectory.resets[[0, 5, 10]], 1.0)
    assert trajectory.resets.sum() == 9
    assert [episode.length for episode in episodes] == [5] * 6


def test_flags_of_a_termination():
    _, _, (trajectory,), _ = _collect(functools.partial(envs.make, toys.Matching))
    np.testing.assert_array_equal(trajectory.discounts[9], 0.0)
    np.testing.assert_array_equal(trajectory.next_values[9], 0.0)
    np.testing.assert_allclose(np.delete(trajectory.discounts, 9, axis=0), 0.9)
    _, _, (trajectory,), _ = _collect(functools.partial(envs.make, toys.Matching), length=10)
    np.testing.assert_array_equal(trajectory.next_values[9], 0.0)  # where the rollout ends there too


@pytest.mark.parametrize("backbone", ["mlp", "lstm"])
def test_the_bootstrap_is_the_value_of_the_observation_before_the_reset(backbone):
    """Pendulum restarts elsewhere, so the value of the first observation after a time limit would be wrong."""
    factory = functools.partial(envs.make, "Pendulum-v1", max_episode_steps=4)
    policy, params, (trajectory,), _ = _collect(factory, backbone, length=6, num_envs=2)
    # Replay the first episode alone, without a limit, from the same seed and with the same actions.
    env = envs.make("Pendulum-v1", 2, 0, max_episode_steps=100)
    seen = [env.reset()[0]]
    seen += [env.step(policy.to_environment(trajectory.actions[t]))[0] for t in range(4)]
    output, _ = policy.apply(tf.constant(params), np.stack(seen), policy.initial_state(2), tf.zeros((5, 2)))
    np.testing.assert_allclose(trajectory.next_values[3], output.values[4], atol=1e-5)
    assert np.abs(trajectory.next_values[3] - trajectory.values[4]).min() > 1e-4
    np.testing.assert_allclose(trajectory.next_values[:3], output.values[1:4], atol=1e-5)


def test_a_constant_reward_under_a_time_limit_is_worth_one_over_one_minus_gamma():
    """With V at 1/(1−γ) every return computed from a rollout over time limits is 1/(1−γ) again."""
    env = envs.make(toys.limited_constant, 2, 0)
    worth = 1.0 / (1.0 - 0.9)

    def act(params, observations, state, resets, seed):
        return tf.zeros(2, tf.int32), tf.fill((2,), worth), state

    trajectory, _ = Collector(env, act, (), 12, 0.9, 0).collect(None)
    result = returns.n_step_returns(*trajectory[3:6], trajectory.next_values)
    np.testing.assert_allclose(result, worth, rtol=1e-5)


def test_drawn_actions_do_not_depend_on_truncations():
    """Copies that several processes play all draw from one stream, whichever process sees an episode cut short."""

    def act(params, observations, state, resets, seed):
        return tf.constant(np.random.default_rng(seed).integers(2, size=2, dtype=np.int32)), tf.zeros(2), state

    taken = []
    for limit in (3, 5, 100):
        env = envs.make(functools.partial(toys.limited_constant, limit), 2, 0)
        collector = Collector(env, act, (), 12, 0.9, seed=7)
        taken.append(np.stack([collector.collect(None)[0].actions for _ in range(2)]))
    np.testing.assert_array_equal(taken[0], taken[2])
    np.testing.assert_array_equal(taken[1], taken[2])


def test_evaluation_plays_whole_episodes_and_exactly_so_many():
    factory = functools.partial(envs.make, toys.limited_constant)
    env = factory(num_envs=1, seed=0)
    policy = Policy(env.single_observation_space, env.single_action_space)
    trained = InferencePolicy(policy, policy.initial_parameters(0))
    summary = summarize(play_episodes(trained, factory, 13, seed=0))
    assert summary == {"episodes": 13, "mean_return": 5.0, "std_return": 0.0, "mean_length": 5.0}


def test_evaluation_does_not_favour_short_episodes():
    """Environment 0 ends at once and environment 1 late: both must count the same."""
    lengths = iter([1, 9] * 20)

    class Uneven(toys.Constant):
        def reset(self, *, seed=None, options=None):
            self._limit, self._time = next(lengths) if seed is not None else self._limit, 0
            return super().reset(seed=seed)

        def step(self, action):
            self._time += 1
            observation, reward, _, _, info = super().step(action)
            return observation, reward, self._time >= self._limit, False, info

    factory = functools.partial(envs.make, Uneven)
    policy = Policy(toys.Constant.observation_space, toys.Constant.action_space)
    trained = InferencePolicy(policy, policy.initial_parameters(0))
    assert summarize(play_episodes(trained, factory, 10, seed=0))["mean_return"] == 5.0


def test_a_lost_life_ends_an_episode_for_learning_and_the_score_is_that_of_the_game():
    env = envs.make("Breakout", 1, 3, life_loss=True, noop_max=0, frame_size=42)

    def act(params, observations, time, resets, seed):
        return tf.constant([1 if time % 10 == 0 else 2 + time // 7 % 2]), tf.zeros(1), time + 1

    trajectory, episodes = Collector(env, act, 0, 200, 0.9, 0).collect(None)
    env.close()
    assert trajectory.boundaries.sum() == 5
    np.testing.assert_array_equal(trajectory.discounts == 0.0, trajectory.boundaries == 1.0)
    assert [(episode.score, episode.length) for episode in episodes] == [(1.0, 195)]


class Shown:
    """One copy whose images are blank at first, then of brightness 30 but for a few pixels; it may break at a step."""

    action_space = gym.spaces.MultiDiscrete([3])

    def __init__(self, breaks_at=99):
        self.steps, self.closed, self._breaks_at = 0, False, breaks_at

    def _images(self):
        images = np.zeros((1, 8, 8), np.uint8) if self.steps < 4 else np.full((1, 8, 8), 30, np.uint8)
        images[:, :2, :2] = 255
        return images

    def reset(self, seed=None):
        return self._images(), {}

    def step(self, actions):
        self.steps += 1
        if self.steps == self._breaks_at:
            raise ValueError("broke")
        return self._images(), np.zeros(1), np.zeros(1, bool), np.zeros(1, bool), {}

    def close(self):
        self.closed = True


def test_the_background_is_what_most_pixels_are_once_frames_are_full():
    shown, broken = Shown(), Shown(breaks_at=3)
    assert rollout.background(lambda num_envs, seed: shown, 0) == 30.0
    with pytest.raises(ValueError, match="broke"):
        rollout.background(lambda num_envs, seed: broken, 0)
    assert shown.closed
    assert broken.closed

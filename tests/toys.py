"""Tiny environments whose best score is known."""

import gymnasium as gym
import numpy as np


class Matching(gym.Env):
    """Shows one of four symbols; 1 for naming it. Ten steps to an episode, so the best score is 10 and chance 2.5."""

    observation_space = gym.spaces.Box(0.0, 1.0, (4,), np.float32)
    action_space = gym.spaces.Discrete(4)

    def _show(self):
        self._symbol = int(self.np_random.integers(4))
        return np.eye(4, dtype=np.float32)[self._symbol]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._time = 0
        return self._show(), {}

    def step(self, action):
        reward = float(action == self._symbol)
        self._time += 1
        return self._show(), reward, self._time == 10, False, {}


class Recall(gym.Env):
    """Shows a symbol in the first of three steps only; 1 for naming it in the last. Without memory, chance: 0.5."""

    observation_space = gym.spaces.Box(0.0, 1.0, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def _show(self):
        shown = np.zeros(3, np.float32)
        if self._time == 0:
            shown[self._symbol] = 1.0
        shown[2] = self._time == 2
        return shown

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._time, self._symbol = 0, int(self.np_random.integers(2))
        return self._show(), {}

    def step(self, action):
        reward = float(self._time == 2 and action == self._symbol)
        self._time += 1
        return self._show(), reward, self._time == 3, False, {}


class Reach(gym.Env):
    """A real-valued target in [-1, 1]; the reward is −(action − target)². Five steps to an episode; the best is 0."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Box(-2.0, 2.0, (1,), np.float32)

    def _show(self):
        self._target = self.np_random.uniform(-1.0, 1.0, 1).astype(np.float32)
        return self._target

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._time = 0
        return self._show(), {}

    def step(self, action):
        reward = -float(np.square(action - self._target).sum())
        self._time += 1
        return self._show(), reward, self._time == 5, False, {}


class Identity(gym.Env):
    """Shows one of n symbols, or a number in [-1, 1]; 1 for naming it, or for being within 0.5 of it.

    A hundred steps to an episode, so the best score is 100. stable-baselines3's `IdentityEnv` and `IdentityEnvBox`.
    """

    def __init__(self, symbols=0):
        real = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.observation_space = self.action_space = gym.spaces.Discrete(symbols) if symbols else real
        self._symbols = symbols

    def _show(self):
        draw = self.np_random
        self._shown = (
            int(draw.integers(self._symbols)) if self._symbols else draw.uniform(-1.0, 1.0, 1).astype(np.float32)
        )
        return self._shown

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._time = 0
        return self._show(), {}

    def step(self, action):
        right = action == self._shown if self._symbols else abs(action - self._shown)[0] <= 0.5
        self._time += 1
        return self._show(), float(right), False, self._time == 100, {}


class Target(gym.Env):
    """Nothing to see; the reward is −|action − target|, in parts of the way between the bounds. Five steps, best 0."""

    observation_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)

    def __init__(self, space, target):
        self.action_space, self._target = space, target
        self._span = float(np.max(space.high) - np.min(space.low))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._time = 0
        return np.ones(1, np.float32), {}

    def step(self, action):
        action = np.asarray(action)  # NumPy makes a scalar of a row of ()
        assert self.action_space.contains(action), f"{action!r} is not of {self.action_space}"
        self._time += 1
        reward = -float(np.abs(action.astype(np.float64) - self._target).mean()) / self._span
        return np.ones(1, np.float32), reward, self._time == 5, False, {}


class Constant(gym.Env):
    """Reward 1 at every step, for ever: under a time limit its value is still 1/(1−γ)."""

    observation_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        return np.ones(1, np.float32), 1.0, False, False, {}


class Failing(Constant):
    """Raises at its 50th step."""

    def __init__(self):
        self._time = 0

    def step(self, action):
        self._time += 1
        if self._time == 50:
            raise RuntimeError("the simulator broke")
        return super().step(action)


class Leaving(Constant):
    """Asks its program to end, with a status of its own, at its 50th step."""

    def __init__(self, kind=SystemExit):
        self._time, self._kind = 0, kind

    def step(self, action):
        self._time += 1
        if self._time == 50:
            raise self._kind(3)
        return super().step(action)


class Poisoned(Constant):
    """Rewards turn NaN after 50 steps."""

    def __init__(self):
        self._time = 0

    def step(self, action):
        self._time += 1
        observation, reward, *rest = super().step(action)
        return observation, float("nan") if self._time > 50 else reward, *rest


def limited_constant(limit=5):
    return gym.wrappers.TimeLimit(Constant(), limit)


class Recording:
    """A factory that notes the seeds of the environments that it is asked for."""

    def __init__(self, make):
        self.make, self.seeds = make, []

    def __call__(self, num_envs, seed):
        self.seeds.append(seed)
        return self.make(num_envs=num_envs, seed=seed)

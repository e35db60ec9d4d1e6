"""A3C on an environment of your own, in under a minute: its class, or any callable that returns a gymnasium.Env."""

import tempfile
from pathlib import Path

import gymnasium as gym
import numpy as np

import agents
import envs
import rlab


class Echo(gym.Env):
    """Shows one of four symbols; 1 for naming it. Ten steps to an episode, so the best score is 10 and chance 2.5."""

    observation_space = gym.spaces.Box(0.0, 1.0, (4,), np.float32)
    action_space = gym.spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._time = 0
        return self._show(), {}

    def step(self, action):
        reward = float(action == self._symbol)
        self._time += 1
        return self._show(), reward, self._time == 10, False, {}

    def _show(self):
        self._symbol = int(self.np_random.integers(4))
        return np.eye(4, dtype=np.float32)[self._symbol]


def main() -> None:
    agent = agents.A3C(env=Echo, seed=0)
    run = Path(tempfile.mkdtemp()) / "echo"
    agent.train(run=run, steps=30_000)

    policy = rlab.load_policy(run)
    env = envs.make(Echo, num_envs=1, seed=1)
    observation, _ = env.reset()
    state, score = policy.initial_state(batch_size=1), 0.0
    for _ in range(10):
        action, state = policy.act(observation, state, deterministic=True)
        observation, reward, _, _, _ = env.step(action)
        score += float(reward[0])
    print(f"one episode: {score:g} of 10")


if __name__ == "__main__":
    main()

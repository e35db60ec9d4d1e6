"""Each agent's default settings learn to name what is shown: what any environment gets that was not tuned for."""

import functools

import gymnasium as gym
import numpy as np
import pytest
import toys

import agents
import rlab
from rlab.sampling.evaluation import play_episodes


@pytest.mark.parametrize(
    ("agent", "symbols", "steps"),
    [("A3C", 10, 20_000), ("TRPO", 10, 20_000), ("RPG", 0, 60_000), ("SNES", 10, 300_000)],
)
def test_default_settings_learn_the_identity(agent, symbols, steps, tmp_path):
    kind = functools.partial(toys.Identity, symbols)
    getattr(agents, agent)(env=kind).train(tmp_path / "run", steps)
    policy = rlab.load_policy(tmp_path / "run")
    # A3C still explores at its last step: 95 or 96 of 100 with samples, so its likeliest actions are judged.
    played = play_episodes(policy, kind, 50, seed=1, deterministic=True if agent == "A3C" else None)
    assert np.mean([episode.score for episode in played]) >= 95.0


class Quadrants(gym.Env):
    """Names the quarter of a picture that is bright; ten steps to an episode, a point for each."""

    observation_space, action_space = gym.spaces.Box(0.0, 1.0, (16, 16, 1), np.float32), gym.spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._show(), {}

    def step(self, action):
        point, self.time = float(action == self.bright), self.time + 1
        return self._show(), point, False, self.time == 10, {}

    def _show(self):
        self.bright = int(self.np_random.integers(4))
        quarters = np.arange(4).reshape(2, 2) == self.bright
        return quarters.repeat(8, 0).repeat(8, 1)[..., None].astype(np.float32)


def test_the_step_of_rpg_suits_images(tmp_path):
    agent = agents.RPG(env=Quadrants)
    assert agent.config.learning_rate == 5e-4
    assert agents.RPG(env=functools.partial(toys.Identity, 2)).config.learning_rate == 5e-3
    agent.train(tmp_path / "run", 4_000)
    played = play_episodes(rlab.load_policy(tmp_path / "run"), Quadrants, 50, seed=1)
    assert np.mean([episode.score for episode in played]) >= 7.0  # of 10; 2.5 by chance, and with the larger step

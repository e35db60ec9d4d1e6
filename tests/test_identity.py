"""Each agent's default settings learn to name what is shown: what any environment gets that was not tuned for."""

import functools

import numpy as np
import pytest
import toys

import agents
import rlab
from rlab.evaluation import play_episodes


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

"""Trainings of one process compile the same thing once: XLA keeps what it has compiled as long as the process lives."""

import functools
import tempfile

import gymnasium as gym
import numpy as np
import pytest
import toys

import agents
import envs
from rlab.ops import sharing
from rlab.policies.acting import compile_acting
from rlab.policies.policy import build

SMALL = {
    "A3C": ({"workers": 1, "envs_per_worker": 2}, 20),
    "TRPO": ({"batch_size": 64, "parallel_envs": 2, "critic_minibatch": 32}, 64),
    "RPG": ({"episodes_per_batch": 2, "baseline": "recurrent"}, 20),
    "SNES": ({"population": 4}, 40),
}


def test_a_thing_is_made_once_and_the_oldest_is_forgotten(monkeypatch):
    monkeypatch.setattr(sharing, "KEPT", 2)
    monkeypatch.setattr(sharing, "MADE", type(sharing.MADE)())
    made = []
    for key in (1, 2, 1, 3, 1, 2):
        sharing.once(lambda key=key: made.append(key), key)
    assert made == [1, 2, 3, 2]


def test_the_same_architecture_is_the_same_object_and_no_other_is():
    box, discrete = gym.spaces.Box(0.0, 1.0, (3,), np.float32), gym.spaces.Discrete(2)
    policy = build(gym.spaces.Box(0.0, 1.0, (3,), np.float32), gym.spaces.Discrete(2), "mlp", observe_actions=False)
    assert build(box, discrete, "mlp", observe_actions=False) is policy
    others = [
        build(gym.spaces.Box(0.0, np.array([1.0, 2.0, 1.0], np.float32)), discrete, "mlp", observe_actions=False),
        build(box, gym.spaces.Discrete(2, start=1), "mlp", observe_actions=False),
        build(box, gym.spaces.MultiBinary(2), "mlp", observe_actions=False),
        build(box, discrete, "lstm", observe_actions=False),
        build(box, discrete, "mlp", observe_actions=True),
    ]
    assert len({id(other) for other in [policy, *others]}) == 6
    assert compile_acting(policy) is compile_acting(policy)
    assert compile_acting(policy) is not compile_acting(policy, deterministic=True)


@pytest.mark.parametrize("name", SMALL)
def test_a_second_training_compiles_nothing_new_and_no_file_of_autograph_stays(tmp_path, monkeypatch, name):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    kind, (changes, steps) = getattr(agents, name), SMALL[name]
    made = []
    for seed in range(2):
        agent = kind(kind.Config(**changes), functools.partial(envs.make, toys.Matching), "mlp", seed)
        agent.train(tmp_path / str(seed), steps)
        made.append(set(sharing.MADE))
    assert made[0] == made[1]
    if name != "SNES":  # TensorFlow's own `vectorized_map` makes one, which goes when the process ends by itself
        assert not list((tmp_path / "tmp").iterdir())

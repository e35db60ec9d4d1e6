"""SNES: groups that play as their members alone would, the same bits however a run is cut, and learning."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
import toys

import agents
import envs
import rlab
from agents import snes
from agents.agent import checkpoint_of
from rlab.errors import BadInputError, TrainingError
from rlab.runs.metrics import read_metrics
from rlab.sampling.evaluation import play_episodes, summarize
from rlab.sampling.rollout import evaluate_members
from rlab.schedules import Schedule

CONFIG = agents.SNES.Config(population=16, group=8, sigma=0.3, learning_rate=0.03)
CARTPOLE = functools.partial(envs.make, "CartPole-v1")
MATCHING = functools.partial(envs.make, toys.Matching)


def _learner(env=CARTPOLE, policy=None, seed=0, steps=10**9, **changes):
    return agents.SNES(dataclasses.replace(CONFIG, **changes), env, policy, seed).learner(Schedule(steps))


def _train(run, env, steps, policy=None, seed=0, **changes):
    return agents.SNES(dataclasses.replace(CONFIG, **changes), env, policy, seed).train(run, steps)


def _score(run, env):
    return summarize(play_episodes(rlab.load_policy(run), env, 100, 0, True))["mean_return"]


@pytest.mark.parametrize("backbone", ["mlp", "highway", "rnn", "lstm"])
def test_a_group_plays_as_its_members_do_one_by_one(backbone):
    members, episodes = 16, 2
    probe = CARTPOLE(num_envs=1, seed=0)
    policy = rlab.policies.build(probe.single_observation_space, probe.single_action_space, backbone)
    params = np.stack([policy.initial_parameters(seed) for seed in range(members)])
    params += 0.3 * np.random.default_rng(0).normal(size=params.shape).astype(np.float32)
    found = []
    for group in (members, 1):
        population = rlab.policies.Population(policy, episodes)
        act, memory = population.act, population.initial_state(group)
        env = CARTPOLE(num_envs=group * episodes, seed=0, single_episode=group > 1)
        given = [population.prepare(tf.constant(params[i : i + group])) for i in range(0, members, group)]
        parts = [
            evaluate_members(env, act, memory, some, 100 + i * group * episodes, 0, 4) for i, some in enumerate(given)
        ]
        found.append(parts)
    (together,), alone = found
    np.testing.assert_array_equal(together.returns, np.concatenate([part.returns for part in alone]))
    np.testing.assert_array_equal(together.lengths, np.concatenate([part.lengths for part in alone]))
    assert together.lengths.min() < together.lengths.max()
    assert together.seen.rows == together.lengths.sum()
    seen = functools.reduce(rlab.ops.moments.merge, [part.seen for part in alone])
    np.testing.assert_allclose(together.seen.mean, seen.mean, rtol=1e-9)


@pytest.mark.parametrize("backbone", ["small-cnn", "dnc", "seq2seq"])
def test_any_backbone_has_populations(backbone):
    env = functools.partial(envs.make, "Pong", frame_size=42) if backbone == "small-cnn" else CARTPOLE
    probe = env(num_envs=2, seed=0)
    policy = rlab.policies.build(probe.single_observation_space, probe.single_action_space, backbone)
    params = tf.constant(np.stack([policy.initial_parameters(seed) for seed in range(2)]))
    observations, _ = probe.reset()
    population = rlab.policies.Population(policy)
    given = population.initial_state(2), np.ones(2), np.zeros((2, 2))
    actions, _ = population.act(population.prepare(params), observations, *given)
    for i, action in enumerate(actions.numpy()):
        output, _ = policy.apply(params[i], observations[i][None, None], policy.initial_state(1), tf.ones((1, 1)))
        assert action == output.distribution.mode()[0, 0]


def test_a_member_that_has_played_its_episodes_stops_acting():
    """Eight members whose episodes end one after another act in groups of 8 and 4; what is told is theirs."""

    class Counting(toys.Matching):
        def step(self, action):
            seen, reward, _, _, info = super().step(action)
            return seen, reward, self._time == 2 * self._number, False, info

        def reset(self, *, seed=None, options=None):
            self._number = 1 + (seed or 0) % 8
            return super().reset(seed=seed, options=options)

    env = envs.make(Counting, 8, single_episode=True)
    acting = []

    def act(params, observations, state, resets, seeds):
        acting.append(seeds[:, 0].tolist())
        np.testing.assert_array_equal(params, seeds[:, 0] - 50)
        return tf.constant(np.argmax(observations, axis=1)), state

    found = evaluate_members(env, act, (), tf.range(8), seed=800, actions_seed=50)
    np.testing.assert_array_equal(found.lengths[:, 0], 2 * np.arange(1, 9))
    np.testing.assert_array_equal(found.returns[:, 0], 2 * np.arange(1, 9))
    assert [len(who) for who in acting] == [8] * 8 + [4] * 8
    assert acting[-1] == [54, 55, 56, 57]


def test_a_request_to_stop_ends_a_generation_and_changes_nothing(monkeypatch):
    learner = _learner()
    before = checkpoint_of(learner)
    monkeypatch.setattr(snes.runs, "stop_requested", lambda: True, raising=False)
    assert next(learner.updates()) is None
    after = checkpoint_of(learner)
    assert after.steps == before.steps == 0
    for name, part in before.arrays.items():
        np.testing.assert_array_equal(after.arrays[name], part)


def test_images_are_normalized_by_a_reference_batch(tmp_path):
    """Its statistics are not searched, are those of the mean in what is saved, and are found again by who resumes."""
    env = functools.partial(envs.make, "Pong", frame_size=36, max_frames=200)
    few = {"population": 4, "group": 4, "reference_batch": 20}
    learner = _learner(env, "vbn-small-cnn", **few)
    sigma = learner.policy.named(learner.search.sigma.numpy())
    kept = {name for name in sigma if "reference" in name}
    assert len(kept) == 8
    assert not any(sigma[name].any() for name in kept)
    _train(tmp_path / "whole", env, 600, "vbn-small-cnn", **few)
    _train(tmp_path / "cut", env, 100, "vbn-small-cnn", **few)
    agents.SNES.resume(tmp_path / "cut", env, 600)
    whole, cut = ((tmp_path / run / "policy" / "weights.safetensors").read_bytes() for run in ("whole", "cut"))
    assert whole == cut
    policy = rlab.load_policy(tmp_path / "whole")
    reference = learner.reference()
    assert len(np.unique(reference, axis=0)) > 10
    again = policy.policy.with_reference(tf.constant(policy.parameters), tf.constant(reference))
    np.testing.assert_allclose(again, policy.parameters, atol=1e-3)
    measured = policy.policy.named(np.asarray(policy.parameters))
    assert np.abs(measured["backbone/cnn/norm_3/reference_mean"]).max() > 0.0


def test_only_what_decides_is_searched():
    learner = _learner(functools.partial(envs.make, "Pendulum-v1"), normalize_observations=True)
    sigma = learner.policy.named(learner.search.sigma.numpy())
    still = {name for name, part in sigma.items() if not part.any()}
    unused = {"value/kernel", "value/bias", "log_std"}
    assert still == unused | {"backbone/observation_mean", "backbone/observation_deviation"}
    before = learner.policy.named(learner.search.mean.numpy())
    next(learner.updates())
    after = learner.policy.named(learner.search.mean.numpy())
    for name in unused:
        np.testing.assert_array_equal(after[name], before[name])
    assert np.abs(after["policy/kernel"] - before["policy/kernel"]).max() > 0.0
    assert np.abs(after["backbone/observation_mean"]).max() > 0.0


@pytest.mark.parametrize(
    ("env", "policy", "changes", "score"),
    [
        (MATCHING, None, {}, 9.5),
        (MATCHING, None, {"deterministic": False}, 9.0),
        (MATCHING, None, {"form": "full", "utilities": "nes", "learning_rate": 1.0}, 9.5),
        (
            functools.partial(envs.make, toys.Reach),
            None,
            {"optimizer": "sgd", "learning_rate": 0.003, "sigma": 0.05},
            -0.05,
        ),
        (functools.partial(envs.make, toys.Recall), "rnn", {"episodes": 8}, 0.95),
    ],
)
def test_learns(tmp_path, env, policy, changes, score):
    _train(tmp_path / "run", env, 60_000, policy, **({"population": 64, "group": 32, "episodes": 2} | changes))
    assert _score(tmp_path / "run", env) > score
    assert rlab.load_policy(tmp_path / "run").deterministic is changes.get("deterministic", True)


def test_the_same_seed_gives_the_same_bits(tmp_path):
    found = []
    for run, seed in (("a", 0), ("b", 0), ("c", 1)):
        _train(tmp_path / run, CARTPOLE, 2000, seed=seed)
        found.append((tmp_path / run / "policy" / "weights.safetensors").read_bytes())
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize("form", ["simple", "full"])
def test_going_on_from_a_checkpoint_changes_no_bit(tmp_path, form):
    changes = {"normalize_observations": True, "form": form}
    whole = _train(tmp_path / "whole", CARTPOLE, 3000, **changes)
    _train(tmp_path / "cut", CARTPOLE, 1000, **changes)
    agents.SNES.resume(tmp_path / "cut", CARTPOLE, 3000)
    whole, cut = ((tmp_path / run / "policy" / "weights.safetensors").read_bytes() for run in ("whole", "cut"))
    assert whole == cut
    assert read_metrics(tmp_path / "cut")[-1]["steps"] == read_metrics(tmp_path / "whole")[-1]["steps"]


def test_a_fault_names_the_place(tmp_path):
    with pytest.raises(TrainingError, match=r"generation 0, members 0 to 7: .*RuntimeError: the simulator broke"):
        _train(tmp_path / "run", functools.partial(envs.make, toys.Failing), 1000)
    with pytest.raises(TrainingError, match=r"^step 0: KeyboardInterrupt: 3 \(toys.py:\d+\)"):  # no signal came
        _train(tmp_path / "left", functools.partial(envs.make, lambda: toys.Leaving(KeyboardInterrupt)), 1000)
    poisoned = functools.partial(envs.make, lambda: toys.gym.wrappers.TimeLimit(toys.Poisoned(), 60))
    with pytest.raises(TrainingError, match=r"members 0 to 7: environment Poisoned, .* the reward is nan"):
        _train(tmp_path / "poisoned", poisoned, 1000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"population": 15}, "--population must be even for mirrored noise, not 15"),
        ({"group": 5}, "--group must be even for mirrored noise, not 5"),
        ({"population": 20}, "--group must divide the population of 20, not 8"),
        ({"sigma": 0.0}, "--sigma must be above 0, not 0.0"),
        ({"group": -2}, "--group must be at least 0, not -2"),
        ({"form": "fuller"}, "--form"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(BadInputError, match=message):
        _learner(**changes)


@pytest.mark.parametrize(
    ("population", "mirrored", "group"),
    [(256, True, 64), (64, True, 16), (1024, True, 64), (20, True, 4), (2, True, 2), (10, True, 2), (7, False, 1)],
)
def test_a_group_that_is_left_open_is_a_quarter(population, mirrored, group):
    config = agents.SNES.Config(population=population, mirrored=mirrored)
    assert config.of_ranks(1).group == group
    assert config.of_ranks(min(4, population // 2)).group == group


def test_a_step_size_that_falls_is_what_the_schedule_leaves_of_it():
    steps, left = [], []
    for decay in (False, True):
        learner = _learner(steps=5000, decay_learning_rate=decay)
        updates = learner.updates()
        first = next(updates)
        left.append(1.0 - first.steps / 5000)
        steps.append(next(updates).metrics["step_norm"])
    assert 0.1 < left[0] == left[1] < 0.99
    assert steps[1] / steps[0] == pytest.approx(left[0], rel=1e-3)

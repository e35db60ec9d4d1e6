"""TRPO: every update within its region, the same for any split of a batch, and what it learns."""

import dataclasses
import functools

import gymnasium as gym
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
import toys

import agents
import envs
import rlab
from agents import trpo
from rlab import policies
from rlab.errors import BadInputError, TrainingError
from rlab.parallel.comm import Serial
from rlab.policies import LinearCritic, NetworkFitter, Policy
from rlab.policies.baselines import LinearBaseline, steps_within_episodes
from rlab.runs.metrics import read_metrics
from rlab.sampling.evaluation import play_episodes, summarize
from rlab.sampling.rollout import Collector
from rlab.schedules import Schedule

CONFIG = agents.TRPO.Config(batch_size=256, parallel_envs=8, critic_minibatch=64, max_kl=0.01)
MAX_KL = tf.constant(CONFIG.max_kl)
CARTPOLE = functools.partial(envs.make, "CartPole-v1")
LIMITED = functools.partial(envs.make, toys.limited_constant)


def _learner(env=CARTPOLE, policy=None, seed=0, steps=10**9, **changes):
    return agents.TRPO(dataclasses.replace(CONFIG, **changes), env, policy, seed).learner(Schedule(steps))


def _train(run, env, steps, policy=None, seed=0, **changes):
    return agents.TRPO(dataclasses.replace(CONFIG, **changes), env, policy, seed).train(run, steps)


def _score(run, env):
    return summarize(play_episodes(rlab.load_policy(run), env, 100, 0))["mean_return"]


@pytest.mark.parametrize("backbone", ["mlp", "lstm"])
def test_every_accepted_step_stays_within_the_region(tmp_path, backbone):
    _train(tmp_path / "run", CARTPOLE, 256 * 12, backbone, max_kl=0.02)
    rows = read_metrics(tmp_path / "run")
    accepted = [row for row in rows if row["fraction"] > 0.0]
    assert len(accepted) > 6
    assert rows[0]["kl"] == pytest.approx(rows[0]["predicted_kl"], rel=0.1)  # a fresh policy is nearly linear
    for row in accepted:
        assert 0.0 < row["kl"] <= 0.02
        assert row["improvement"] > 0.0
        assert 0.4 < row["kl"] / row["predicted_kl"] < 2.5
        assert row["curvature"] > 0.0
        assert row["cg_residual"] < 1.0


def test_a_decaying_region_shrinks_to_nothing_at_the_last_step(tmp_path):
    _train(tmp_path / "run", CARTPOLE, 256 * 8, max_kl=0.02, decay_max_kl=True)
    rows = read_metrics(tmp_path / "run")
    assert all(row["kl"] <= 0.02 * (8 - batch) / 8 for batch, row in enumerate(rows))
    assert rows[-1]["kl"] > 0.0


def test_the_divergence_is_that_of_the_policies_before_and_after():
    learner = _learner()
    before = learner.params
    batch, *_ = learner.play()
    step, _ = learner.find_step(before, batch, MAX_KL)
    old, new = (policies.distribution_of(learner.policy, params, batch) for params in (before, step.params))
    assert float(step.kl) == pytest.approx(float(tf.reduce_mean(old.kl(new))), rel=1e-3)
    ratio = np.exp(new.log_prob(batch.actions) - old.log_prob(batch.actions))
    gain = (ratio * batch.advantages).mean() - batch.advantages.mean()
    assert float(step.improvement) == pytest.approx(gain, rel=1e-3)


def test_a_weight_on_entropy_raises_it():
    """With no advantage to be had, all that is left to gain is entropy."""
    learner = _learner(entropy_weight=1.0)
    batch, *_ = learner.play()
    batch = batch._replace(advantages=np.zeros_like(batch.advantages))
    biased = learner.params + 0.3 * learner.policy.trainable_mask * np.sign(np.sin(np.arange(learner.policy.size)))
    step, before = learner.find_step(biased, batch, MAX_KL)
    after = tf.reduce_mean(policies.distribution_of(learner.policy, step.params, batch).entropy())
    assert float(step.improvement) == pytest.approx(float(after) - float(before), abs=1e-5)
    assert float(after) > float(before)


def test_a_step_without_gain_changes_no_bit():
    learner = _learner()
    batch, *_ = learner.play()
    step, _ = learner.find_step(learner.params, batch._replace(advantages=np.zeros_like(batch.advantages)), MAX_KL)
    np.testing.assert_array_equal(step.params, learner.params)
    assert float(step.fraction) == 0.0
    poisoned = batch.advantages.copy()
    poisoned[0, 0] = np.nan
    step, _ = learner.find_step(learner.params, batch._replace(advantages=poisoned), MAX_KL)
    np.testing.assert_array_equal(step.params, learner.params)


def test_the_surrogates_gradient_is_that_of_finite_differences():
    learner = _learner(env=functools.partial(envs.make, "Pendulum-v1"))
    batch, *_ = learner.play()
    old = policies.distribution_of(learner.policy, learner.params, batch)

    def surrogate(params):
        new = policies.distribution_of(learner.policy, params, batch)
        return float(
            tf.reduce_mean(tf.exp(new.log_prob(batch.actions) - old.log_prob(batch.actions)) * batch.advantages)
        )

    with tf.GradientTape() as tape:
        tape.watch(learner.params)
        now = policies.distribution_of(learner.policy, learner.params, batch)
        log_prob = policies.log_probabilities(now, batch)
        value = trpo.surrogate(log_prob, tf.stop_gradient(log_prob), batch)
    gradient = tape.gradient(value, learner.params)
    direction = gradient / tf.norm(gradient)
    step = 1e-2
    slope = (surrogate(learner.params + step * direction) - surrogate(learner.params - step * direction)) / (2.0 * step)
    assert slope == pytest.approx(float(tf.norm(gradient)), rel=2e-2)


@pytest.mark.parametrize("backbone", ["mlp", "lstm"])
def test_subsampled_products_still_bound_the_step(backbone):
    learner = _learner(policy=backbone, fisher_subsampling=4)
    batch, *_ = learner.play()
    assert batch.fewer.size == (64 if backbone == "mlp" else 2)
    assert 0.0 < float(learner.find_step(learner.params, batch, MAX_KL)[0].kl) <= 0.01
    next(learner.updates())
    assert not np.array_equal(learner.play()[0].fewer, batch.fewer)


@pytest.mark.parametrize("changes", [{}, {"normalize_returns": False}])
def test_under_a_time_limit_a_constant_reward_is_worth_as_much_as_without(changes):
    """1/(1−γ): a truncation is no end. Five steps to an episode, and γ = 0.8."""
    learner = _learner(LIMITED, discount=0.8, learning_rate=3e-3, **changes)
    updates = learner.updates()
    for _ in range(30):
        next(updates)
    assert learner.play()[2].values.mean() == pytest.approx(5.0, abs=0.1)


def test_a_linear_critic_is_the_linear_baseline():
    env = functools.partial(envs.make, "Pendulum-v1", max_episode_steps=7)
    learner = _learner(env, critic="linear")
    next(learner.updates())
    _, _, trajectory, _ = learner.play()
    baseline = LinearBaseline()
    baseline.weights = learner.critic.params.numpy()
    times = steps_within_episodes(trajectory.resets, trajectory.state[1].numpy())
    assert times.max() == 6
    expected = baseline.predict_at(trajectory.observations, times)
    np.testing.assert_allclose(trajectory.values, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(BadInputError, match="--critic linear takes vectors"):
        LinearCritic(gym.spaces.Discrete(3))


@pytest.mark.parametrize("split", [1, 2, 4])
def test_minibatches_cover_every_step_once_however_the_environments_are_split(split):
    """Each minibatch of 8 environments of images on `split` ranks is the same set of (step, environment)."""

    class Rank(Serial):
        size = split

        def __init__(self, rank):
            self.rank = rank

    images = gym.spaces.Box(0, 255, (42, 42, 4), np.uint8)
    policy, rows = Policy(images, gym.spaces.Discrete(2), "small-cnn"), 8 // split
    found = []
    for rank in range(split):
        fitter = NetworkFitter(policy, Rank(rank), 0, 1e-3, 2, 16, True)
        index = fitter.minibatches(12, rows)[:6]  # of the first of two epochs
        found.append([{(i // rows, i % rows + rank * rows) for i in batch} for batch in index])
    together = [set().union(*parts) for parts in zip(*found, strict=True)]
    assert len(together) == 6
    assert all(len(batch) == 16 for batch in together)
    assert len(set().union(*together)) == 96
    whole = NetworkFitter(policy, Serial(), 0, 1e-3, 2, 16, True)
    assert together == [{(i // 8, i % 8) for i in batch} for batch in whole.minibatches(12, 8)[:6]]


class Switches(toys.Matching):
    """Three bits to be repeated: 1/3 for each right one."""

    observation_space = gym.spaces.Box(0.0, 1.0, (3,), np.float32)
    action_space = gym.spaces.MultiBinary(3)

    def _show(self):
        self._bits = self.np_random.integers(2, size=3)
        return self._bits.astype(np.float32)

    def step(self, action):
        reward = float((np.asarray(action) == self._bits).mean())
        self._time += 1
        return self._show(), reward, self._time == 10, False, {}


class Choices(Switches):
    """The same with one choice of three and one of two."""

    action_space = gym.spaces.MultiDiscrete([3, 2], start=[1, 0])

    def _show(self):
        self._bits = np.array([self.np_random.integers(1, 4), self.np_random.integers(2)])
        return np.array([self._bits[0] == 1, self._bits[0] == 2, self._bits[1]], np.float32)


@pytest.mark.parametrize(
    ("env", "backbone", "changes", "score"),
    [
        (toys.Matching, "mlp", {}, 9.0),
        (toys.Matching, "mlp", {"critic": "linear", "observation_scale": 2.0}, 9.0),
        (toys.Reach, "mlp", {"normalize_observations": True, "discount": 0.5}, -0.5),
        (Switches, "mlp", {}, 9.0),
        (Choices, "mlp", {}, 9.0),
        (toys.Recall, "lstm", {"max_kl": 0.03}, 0.95),
    ],
    ids=["discrete", "linear critic", "real-valued", "binary", "multi-discrete", "memory"],
)
def test_learns(tmp_path, env, backbone, changes, score):
    factory = functools.partial(envs.make, env)
    _train(tmp_path / "run", factory, 20_000, backbone, **({"max_kl": 0.05} | changes))
    assert _score(tmp_path / "run", factory) > score


def _weights(run):
    return safetensors.numpy.load_file(run / "policy" / "weights.safetensors")


def _same(first, second):
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def test_the_same_seed_gives_the_same_bits(tmp_path):
    for name, seed in (("first", 3), ("second", 3), ("other", 4)):
        _train(tmp_path / name, CARTPOLE, 1024, seed=seed)
    first, second, other = (_weights(tmp_path / name) for name in ("first", "second", "other"))
    assert _same(first, second)
    assert not _same(first, other)


@pytest.mark.parametrize(
    ("env", "backbone", "changes"),
    [
        ("CartPole-v1", "mlp", {"normalize_observations": True}),
        ("CartPoleNoVel-v1", "lstm", {"observe_actions": True}),
        ("PendulumNoVel-v1", "mlp", {"critic": "linear"}),
    ],
)
def test_a_resumed_run_equals_a_whole_one_if_the_environment_can_be_saved(tmp_path, capsys, env, backbone, changes):
    factory = functools.partial(envs.make, env)
    _train(tmp_path / "whole", factory, 1536, backbone, **changes)
    _train(tmp_path / "parts", factory, 768, backbone, **changes)
    agents.TRPO.resume(tmp_path / "parts", factory, 1536)
    assert "new episodes begin" not in capsys.readouterr().err
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "parts"))
    whole, parts = (read_metrics(tmp_path / name) for name in ("whole", "parts"))
    assert [row["kl"] for row in whole] == [row["kl"] for row in parts]


def test_a_note_tells_that_the_environment_could_not_be_saved(tmp_path, capsys):
    factory = functools.partial(envs.make, toys.Matching)
    _train(tmp_path / "run", factory, 512)
    agents.TRPO.resume(tmp_path / "run", factory, 1024)
    assert "the environment's state was not saved: new episodes begin" in capsys.readouterr().err


@pytest.mark.parametrize("observe_reward", [False, True])
def test_a_saved_collector_goes_on_to_the_bit(observe_reward):
    policy = agents.TRPO(CONFIG, functools.partial(envs.make, "TMaze", observe_reward=observe_reward), "lstm").policy
    act, params = rlab.policies.compile_acting(policy), policy.initial_parameters(0)

    def collector(seed):
        env = envs.make("TMaze", num_envs=4, seed=seed, corridor=1, observe_reward=observe_reward)
        return Collector(env, act, policy.initial_state(4), 30, 0.9, seed)

    first, second = collector(1), collector(1)
    first.collect(params)
    second.seed, saved = first.seed, first.save()
    second.load(saved)
    for whole, resumed in zip(*(one.collect(params) for one in (first, second)), strict=True):
        for ours, theirs in zip(tf.nest.flatten(whole), tf.nest.flatten(resumed), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("env", "message"), [(toys.Leaving, "SystemExit: 3"), (toys.Poisoned, "the reward is nan")])
def test_a_fault_names_the_place_and_the_run_stays_whole(tmp_path, env, message):
    factory = functools.partial(envs.make, lambda: gym.wrappers.TimeLimit(env(), 30))
    with pytest.raises(TrainingError, match=rf"batch \d+, step \d+: .*{message}"):
        agents.TRPO(CONFIG, factory, "mlp").train(tmp_path / "run", 100_000)
    assert rlab.runs.Run.open(tmp_path / "run").config["agent"] == "trpo"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_kl": 0.0}, "--max-kl must be above 0, not 0.0"),
        ({"damping": -0.1}, "--damping must be above 0, not -0.1"),
        ({"batch_size": 250}, "--batch-size must be a multiple of the 8 environments, not 250"),
        (
            {"critic_minibatch": 60},
            "--critic-minibatch must be a multiple of the 8 environments that divides the batch",
        ),
        ({"critic": "tree"}, "--critic cannot be 'tree'"),
        ({"backtrack": 1.0}, r"--backtrack must be in \(0, 0.99\]"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(BadInputError, match=message):
        _learner(**changes)


@pytest.mark.parametrize(("backbone", "critic"), [("lstm", "network"), ("mlp", "linear")])
def test_a_critic_without_minibatches_is_not_bound_by_their_size(backbone, critic):
    agents.TRPO(dataclasses.replace(CONFIG, critic_minibatch=60, critic=critic), CARTPOLE, backbone)


def test_mujoco_has_tuned_settings_and_needs_no_screen(launch, tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    done = launch("trpo", "--env", "Hopper-v5", "--steps", "4096", "--run", "run")
    assert done.returncode == 0, done.stderr
    assert rlab.load_policy(tmp_path / "run").policy.normalized_features == 11
    filmed = launch("record", "run", "--out", "hop.mp4", "--env-option", "max-episode-steps=5")
    if filmed.returncode:  # no OpenGL here
        assert filmed.returncode == 2, filmed.stderr
        assert "MUJOCO_GL" in filmed.stderr.splitlines()[-1]
    else:
        assert (tmp_path / "hop.mp4").stat().st_size > 0

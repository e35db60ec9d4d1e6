import dataclasses
import functools
import threading
from typing import ClassVar

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
import toys

import agents
import envs
import rlab
from agents import a3c
from rlab.errors import BadInputError, TrainingError
from rlab.parallel import calls
from rlab.policies.acting import compile_acting
from rlab.policies.policy import Policy
from rlab.runs.metrics import read_metrics
from rlab.sampling.evaluation import play_episodes, summarize
from rlab.sampling.rollout import Collector
from rlab.schedules import Schedule

CONFIG = agents.A3C.Config(
    workers=1,
    rollout_length=10,
    learning_rate=3e-3,
    gae_lambda=1.0,
    normalize_advantages=False,
    value_weight=0.25,
    rmsprop_epsilon=1e-5,
)


def _train(run, env=toys.Matching, steps=10_000, policy=None, seed=0, **changes):
    agent = agents.A3C(dataclasses.replace(CONFIG, **changes), functools.partial(envs.make, env), policy, seed)
    return agent.train(run, steps)


def _score(run, env):
    policy = rlab.load_policy(run)
    return summarize(play_episodes(policy, functools.partial(envs.make, env), 50, 0, deterministic=True))["mean_return"]


def _weights(run):
    return safetensors.numpy.load_file(run / "policy" / "weights.safetensors")


@pytest.mark.parametrize("workers", [1, 2])
def test_learns_to_match(tmp_path, workers):
    result = _train(tmp_path / "run", steps=30_000, workers=workers)
    assert result.steps >= 30_000
    assert _score(tmp_path / "run", toys.Matching) > 9.5


def test_learns_real_valued_actions(tmp_path):
    _train(tmp_path / "run", toys.Reach, steps=60_000, discount=0.0)
    assert _score(tmp_path / "run", toys.Reach) > -0.25  # chance, the mode at 0, is −1.67


def test_learns_to_remember_and_cannot_without_memory(tmp_path):
    _train(tmp_path / "lstm", toys.Recall, steps=40_000, policy="lstm")
    _train(tmp_path / "mlp", toys.Recall, steps=40_000, policy="mlp")
    assert _score(tmp_path / "lstm", toys.Recall) == 1.0
    assert _score(tmp_path / "mlp", toys.Recall) < 0.8


def test_learns_with_generalized_normalized_advantages(tmp_path):
    _train(tmp_path / "run", steps=30_000, gae_lambda=0.9, normalize_advantages=True)
    assert _score(tmp_path / "run", toys.Matching) > 9.5


@pytest.mark.parametrize("policy", ["mlp", "lstm"])
def test_one_worker_with_one_seed_is_deterministic(tmp_path, policy):
    for name, seed in (("first", 3), ("second", 3), ("other", 4)):
        _train(tmp_path / name, "CartPole-v1", 2000, policy, seed)
    first, second, other = (_weights(tmp_path / name) for name in ("first", "second", "other"))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not all(np.array_equal(first[name], other[name]) for name in first)


def test_one_worker_on_pong_is_deterministic(tmp_path):
    for name in ("first", "second"):
        _train(tmp_path / name, "Pong", 400, "cnn", envs_per_worker=4)
    first, second = _weights(tmp_path / "first"), _weights(tmp_path / "second")
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("game", "brightness"), [("Pong", 87.0), ("Breakout", 0.0)])
def test_a_game_is_seen_about_its_background(tmp_path, game, brightness):
    _train(tmp_path / "run", game, 40, "cnn", envs_per_worker=2)
    reading = rlab.load_policy(tmp_path / "run").policy.reading
    assert reading.background == brightness
    assert str(reading).endswith(f"scaled from [0, 255] about {brightness:g}")
    agents.A3C.resume(tmp_path / "run", steps=80)
    assert rlab.load_policy(tmp_path / "run").policy.reading == reading


def test_the_formulation_is_kept_and_gives_its_own_bits(tmp_path):
    for name, given in (("graph", {}), ("xla", {"compiler": "xla"}), ("half", {"precision": "bfloat16"})):
        _train(tmp_path / name, "Pong", 160, "small-cnn", **{"compiler": "graph", "envs_per_worker": 4} | given)
    found = [rlab.runs.Run.open(tmp_path / name).config["config"] for name in ("graph", "xla", "half")]
    assert [(config["compiler"], config["precision"]) for config in found] == [
        ("graph", "float32"),
        ("xla", "float32"),
        ("graph", "bfloat16"),
    ]
    graph, xla, half = (_weights(tmp_path / name) for name in ("graph", "xla", "half"))
    assert all(part.dtype == np.float32 for part in half.values())
    assert not all(np.array_equal(graph[name], half[name]) for name in graph)
    assert not all(np.array_equal(graph[name], xla[name]) for name in graph)
    agents.A3C.resume(tmp_path / "half", functools.partial(envs.make, "Pong"), 200)
    assert rlab.runs.Run.open(tmp_path / "half").config["config"] == found[2]


def test_auto_is_measured_and_written_down(tmp_path):
    _train(tmp_path / "run", "CartPole-v1", 100)
    assert rlab.runs.Run.open(tmp_path / "run").config["config"]["compiler"] == "xla"  # of vectors


def test_precision_is_for_images():
    with pytest.raises(BadInputError, match="--precision bfloat16 is for images"):
        agents.A3C(dataclasses.replace(CONFIG, precision="bfloat16"), "CartPole-v1")


def test_a_target_score_ends_the_run_at_the_same_step_every_time(tmp_path):
    agent = agents.A3C(CONFIG, functools.partial(envs.make, toys.Matching))
    results = [agent.train(tmp_path / name, 1_000_000, target_score=6.0) for name in ("first", "second")]
    assert results[0].steps == results[1].steps < 100_000
    assert results[0].mean_score >= 6.0
    first, second = (_weights(tmp_path / name) for name in ("first", "second"))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_resuming_beyond_a_target_score_needs_a_number_of_steps(tmp_path):
    factory = functools.partial(envs.make, "CartPole-v1")
    ended = agents.A3C(CONFIG, factory).train(tmp_path / "run", 100_000, target_score=12.0)
    assert ended.steps < 20_000
    with pytest.raises(BadInputError, match="has reached its target score"):
        agents.A3C.resume(tmp_path / "run", factory)
    assert agents.A3C.resume(tmp_path / "run", factory, 45_000).steps >= 45_000


def test_staleness_is_none_for_one_worker_and_some_for_three(tmp_path):
    _train(tmp_path / "one", steps=2000)
    _train(tmp_path / "three", steps=6000, workers=3)
    assert all(row["staleness"] == 0.0 for row in read_metrics(tmp_path / "one"))
    assert np.mean([row["staleness"] for row in read_metrics(tmp_path / "three")]) > 0.5


@pytest.mark.parametrize("backbone", ["mlp", "lstm"])
def test_the_gradient_is_that_of_finite_differences(backbone):
    config = dataclasses.replace(CONFIG, max_gradient_norm=1e9, gae_lambda=0.9)
    env = envs.make(toys.Matching, 4, 0)
    policy = Policy(env.single_observation_space, env.single_action_space, backbone)
    params = policy.initial_parameters(0)
    params += np.random.default_rng(0).normal(0.0, 0.1, params.shape).astype(np.float32)
    trajectory, _ = Collector(env, compile_acting(policy), policy.initial_state(4), 12, 0.9, 0).collect(params)
    gradient, _ = a3c.compile_gradient(policy, config)(params, trajectory, tf.constant(0.1))
    for seed in range(5):
        direction = np.random.default_rng(seed).normal(size=params.shape).astype(np.float32)
        direction /= np.linalg.norm(direction)
        step = 0.02
        ahead, behind = (
            float(a3c.loss(policy, config, tf.constant(params + sign * step * direction), trajectory, 0.1)[0].total)
            for sign in (1.0, -1.0)
        )
        assert (ahead - behind) / (2 * step) == pytest.approx(float(np.dot(gradient, direction)), abs=3e-3, rel=0.02)


def test_the_gradient_is_bounded():
    env = envs.make(toys.Matching, 4, 0)
    policy = Policy(env.single_observation_space, env.single_action_space)
    params = policy.initial_parameters(0)
    trajectory, _ = Collector(env, compile_acting(policy), (), 12, 0.9, 0).collect(params)
    free, _ = a3c.compile_gradient(policy, dataclasses.replace(CONFIG, max_gradient_norm=1e9))(
        params, trajectory, tf.constant(0.0)
    )
    bounded, _ = a3c.compile_gradient(policy, dataclasses.replace(CONFIG, max_gradient_norm=1e-3))(
        params, trajectory, tf.constant(0.0)
    )
    assert np.linalg.norm(bounded) == pytest.approx(1e-3, rel=1e-3)
    np.testing.assert_allclose(bounded / np.linalg.norm(bounded), free / np.linalg.norm(free), atol=1e-5)


def test_the_learning_rate_falls_to_zero(tmp_path):
    _train(tmp_path / "run", steps=4000)
    rates = [row["learning_rate"] for row in read_metrics(tmp_path / "run")]
    assert rates[0] == pytest.approx(CONFIG.learning_rate)
    assert rates[-1] < 0.05 * CONFIG.learning_rate
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    ("env", "message"),
    [(toys.Leaving, r"worker \d, step .*SystemExit: 3"), (toys.Poisoned, r"worker \d, step .*the reward is nan")],
)
def test_a_fault_in_a_worker_ends_the_run_and_names_the_place(tmp_path, env, message):
    with pytest.raises(TrainingError, match=message):
        _train(tmp_path / "run", env, steps=100_000, workers=2)
    with pytest.raises(TrainingError, match=r"worker \d"):  # the run is whole: it resumes, and meets the fault again
        agents.A3C.resume(tmp_path / "run", functools.partial(envs.make, env))


def test_a_run_resumes_where_it_stopped(tmp_path):
    _train(tmp_path / "run", steps=2000)
    before = read_metrics(tmp_path / "run")
    result = agents.A3C.resume(tmp_path / "run", functools.partial(envs.make, toys.Matching), steps=4000)
    after = read_metrics(tmp_path / "run")
    assert result.steps == 4000
    assert after[: len(before)] == before
    assert after[len(before)]["steps"] > before[-1]["steps"]


def test_resuming_restores_parameters_and_statistics_exactly(tmp_path):
    _train(tmp_path / "run", steps=2000)
    saved = rlab.runs.Run.open(tmp_path / "run").latest_checkpoint()
    agent = agents.A3C(CONFIG, functools.partial(envs.make, toys.Matching))
    learner = agent.learner(Schedule(4000), saved)
    state = learner.state()
    for name, array in _weights(tmp_path / "run").items():
        np.testing.assert_array_equal(state["policy"][name], array)
    assert learner.steps == 2000
    assert state["updates"] == 25
    assert any((array > 0.0).any() for array in state["mean_square"].values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workers": 0}, r"--workers must be in \[1, 1024\]"),
        ({"learning_rate": 0.0}, "--learning-rate must be above 0"),
        ({"discount": 1.5}, r"--discount must be in \[0, 1\]"),
        ({"rollout_length": 2.5}, "--rollout-length must be of type int"),
    ],
)
def test_settings_out_of_range_are_named(changes, message):
    with pytest.raises(BadInputError, match=message):
        agents.A3C(dataclasses.replace(CONFIG, **changes), functools.partial(envs.make, toys.Matching))


class Shared(toys.Matching):
    """A library with one window for all environments of a process: the first that closes closes it for all."""

    closed: ClassVar[list[int]] = []  # steps made by then
    steps = 0

    def step(self, action):
        assert not Shared.closed, "the window is gone"
        Shared.steps += 1
        return super().step(action)

    def close(self):
        if Shared.steps:  # not the one that was asked for its spaces
            Shared.closed.append(Shared.steps)
            raise OSError("no window")


class Held(toys.Matching):
    """The second worker's environment does not come back from its twentieth step."""

    made = 0
    over = threading.Event()

    def __init__(self):
        Held.made += 1
        self.number, self.steps = Held.made, 0

    def step(self, action):
        self.steps += 1
        if self.number == 3 and self.steps == 20:  # the first is that which was asked for its spaces
            Held.over.wait()
        return super().step(action)


def test_environments_close_when_all_have_played_and_one_that_does_not_close_fails_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(Shared, "closed", [])
    result = _train(tmp_path / "run", Shared, steps=200, workers=2, envs_per_worker=1)
    assert result.steps >= 200
    assert Shared.closed == [Shared.steps] * 2


def test_an_environment_that_hangs_holds_up_neither_the_end_nor_the_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(calls, "STUCK", 0.3)
    result = _train(tmp_path / "run", Held, steps=600, workers=2, envs_per_worker=1)
    Held.over.set()
    assert result.steps >= 600
    assert rlab.runs.Run.open(tmp_path / "run").latest_checkpoint().steps == result.steps
    assert "is left behind: step of Held (test_a3c.py:" in capsys.readouterr().err

"""TRPO's vine: branches worth what a slow way finds, apart from all else, and a surrogate of them."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
import toys

import agents
import envs
from agents import trpo
from agents.trpo_checks import check_trust_region
from rlab import policies
from rlab.errors import BadInputError
from rlab.ops.distributions import Categorical, DiagonalGaussian
from rlab.ops.returns import generalized_advantage
from rlab.policies.actions import to_environment
from rlab.runs.metrics import read_metrics
from rlab.sampling import vine
from rlab.schedules import Schedule

CONFIG = agents.TRPO.Config(
    batch_size=256, parallel_envs=8, critic_minibatch=64, max_kl=0.01, sampling="vine", vine_spacing=8, vine_length=6
)


def _learner(env="Acrobot-v1", backbone=None, **changes):
    agent = agents.TRPO(dataclasses.replace(CONFIG, **changes), functools.partial(envs.make, env), backbone)
    return agent.learner(Schedule(10**9))


def _params(learner):
    return learner.pair.join((learner.params, learner.critic.params, learner.critic.scale))


def _grow(learner, segments=3, spacing=5, length=6, count=0):
    return vine.collect(
        learner.collector, _params(learner), segments, spacing, length, count, tf.function(generalized_advantage)
    )


def _slow_worth(learner, params, action, length):
    """Discounted rewards of an action and what follows it, by a loop over time and one over environments."""
    collector, env = learner.collector, learner.collector.env
    env.load_state({name[12:]: part for name, part in collector.save().items() if name.startswith("environment/")})
    observations, resets, state = collector.observations, collector.resets, collector.state
    gamma, total = np.ones(len(resets)), np.zeros(len(resets))
    for t in range(length):
        seed = np.array([collector.seed, collector.acts + 1 + t], np.int32)
        if t == 0:
            _, _, state = collector.act_forced(params, observations, state, resets, action)
        else:
            action, _, state = collector.act(params, observations, state, resets, seed)
            action = action.numpy()
        observations, rewards, terminated, truncated, info = env.step(to_environment(action, env.single_action_space))
        total += gamma * rewards
        seen = observations.copy()
        ended = terminated | truncated
        if ended.any():
            seen[ended] = info["final_obs"][ended]
        seed = np.array([0, 0], np.int32)
        values = collector.act(params, seen, state, np.zeros_like(resets), seed)[1].numpy()
        gamma *= learner.config.discount * ~terminated
        if t == length - 1:
            total += gamma * values
        else:
            total += np.where(truncated, gamma * values, 0.0)
        gamma *= ~truncated
        resets = ended.astype(np.float32)
    return total


@pytest.mark.parametrize(
    ("env", "backbone", "changes", "count"),
    [
        ("CartPole-v1", "mlp", {}, 0),
        ("Pendulum-v1", "mlp", {"normalize_observations": True}, 3),
        ("TMaze", "lstm", {"observe_actions": True}, 0),
        ("TMaze", "mlp", {}, 5),
    ],
)
def test_a_branch_is_worth_what_a_slow_loop_finds(env, backbone, changes, count):
    learner = _learner(env, backbone, **changes)
    params = _params(learner)
    learner.collector.collect(params, 7)
    here = learner.collector.save()
    _, _, branches = _grow(learner, segments=1, length=12, count=count)
    learner.collector.load(here)
    for actions, values in zip(branches.actions, branches.values, strict=True):
        found = _slow_worth(learner, params, actions, 12)
        learner.collector.load(here)
        np.testing.assert_allclose(values, found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("env", "backbone"), [("Acrobot-v1", "mlp"), ("NBack", "lstm")])
def test_branches_leave_the_trajectory_as_it_was(env, backbone):
    learner = _learner(env, backbone)
    here = learner.collector.save()
    trajectory, episodes, branches = _grow(learner, segments=4)
    learner.collector.load(here)
    parts = [learner.collector.collect(_params(learner), 5) for _ in range(4)]
    for name in ("observations", "resets", "actions", "rewards", "values", "next_values"):
        whole = np.concatenate([getattr(part, name) for part, _ in parts])
        np.testing.assert_array_equal(getattr(trajectory, name), whole)
    assert episodes == [episode for _, ended in parts for episode in ended]
    np.testing.assert_array_equal(branches.steps, (np.arange(4)[:, None] * 40 + np.arange(8)).ravel())


def test_the_same_action_has_the_same_luck():
    """Shown symbols are drawn at random in N-back, and so are actions; equal first actions come to equal values."""
    learner = _learner("NBack", "mlp", normalize_returns=False)
    _, _, branches = _grow(learner, length=20, count=12)
    assert branches.sampled == 1.0
    for actions, values in zip(branches.actions.T, branches.values.T, strict=True):
        for action in np.unique(actions):
            assert np.unique(values[actions == action]).size == 1
    assert all(np.unique(actions).size > 1 for actions in branches.actions.T)


def test_every_discrete_action_is_tried_or_as_many_as_asked():
    spaces = [envs.make(name).single_action_space for name in ("Acrobot-v1", "Pendulum-v1")]
    assert vine.actions_to_try(spaces[0], 0) == (3, True)
    assert vine.actions_to_try(spaces[0], 2) == (2, False)
    assert vine.actions_to_try(spaces[1], 0) == (4, False)


@pytest.mark.parametrize("sampled", [0.0, 1.0])
@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_the_surrogate_is_that_of_the_paper(kind, sampled):
    rng = np.random.default_rng(3)
    T, B, A = 4, 3, 5
    steps = np.array([0, 1, 2, 6, 7, 8], np.int32)

    def distribution():
        logits = rng.normal(size=(T, B, A)).astype(np.float32)
        return Categorical(logits) if kind == "categorical" else DiagonalGaussian(logits, 0.1 * logits)

    old, new = distribution(), distribution()
    if kind == "categorical":
        actions = np.tile(np.arange(A, dtype=np.int32)[:, None], (1, 6))
    else:
        actions = rng.normal(size=(A, 6, A)).astype(np.float32)
    values = rng.normal(size=(A, 6)).astype(np.float32)
    batch = policies.Batch(*[np.zeros((T, B))] * 4, (), vine.Branches(steps, actions, values, np.float32(sampled)))
    found = trpo.surrogate(policies.log_probabilities(new, batch), policies.log_probabilities(old, batch), batch)
    total = 0.0
    for n, step in enumerate(steps):
        t, b = divmod(int(step), B)
        at = [type(which)(*(part[t, b] for part in which)) for which in (new, old)]
        p, q = (np.array([float(one.log_prob(actions[k, n])) for k in range(A)]) for one in at)
        weights = np.exp(p - q) if sampled else np.exp(p)
        total += (weights * values[:, n]).sum() / weights.sum() / len(steps)
        if kind == "categorical" and not sampled:
            assert weights.sum() == pytest.approx(1.0, abs=1e-5)
    assert float(found) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize(("env", "backbone"), [("Acrobot-v1", "mlp"), ("Pendulum-v1", "mlp"), ("TMaze", "lstm")])
def test_the_doctor_finds_nothing_wrong_with_a_vine(env, backbone):
    learner = _learner(env, backbone)
    next(learner.updates())
    batch, *_ = learner.play()
    checks = check_trust_region(learner.policy, learner.params, batch, learner.region)
    assert all(check.passed for check in checks), [check for check in checks if not check.passed]


def test_learns_and_counts_every_step(tmp_path):
    """4 is the most that the maze gives; 32 × 8 steps, with 4 branches of 4 steps from each 8th, are an update."""
    factory = functools.partial(envs.make, "TMaze", corridor=1)
    config = dataclasses.replace(CONFIG, vine_length=4)
    result = agents.TRPO(config, factory, "lstm", 0).train(tmp_path / "run", 30_000)
    rows = read_metrics(tmp_path / "run")
    assert rows[0]["steps"] == 256 + 32 * 4 * 4
    assert result.steps % rows[0]["steps"] == 0
    assert all(row["kl"] <= CONFIG.max_kl for row in rows)
    assert rows[-1]["score"] > 3.9


def test_a_resumed_vine_equals_a_whole_one(tmp_path):
    factory = functools.partial(envs.make, "Acrobot-v1")
    results = []
    for name, stops in (("whole", (3000,)), ("parts", (1500, 3000))):
        agents.TRPO(CONFIG, factory).train(tmp_path / name, stops[0])
        for stop in stops[1:]:
            agents.TRPO.resume(tmp_path / name, factory, stop)
        results.append([row["curvature"] for row in read_metrics(tmp_path / name)])
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("make", "changes", "said"),
    [
        ("Blackjack-v1", {}, "cannot be saved and restored"),
        (toys.Matching, {}, "cannot be saved and restored"),
        ("Acrobot-v1", {"vine_spacing": 7}, "--vine-spacing must divide 32 steps"),
        ("Acrobot-v1", {"vine_actions": 1}, "--vine-actions must be at least 2"),
        ("Acrobot-v1", {"vine_length": 0}, "at least 1"),
    ],
)
def test_an_environment_or_setting_without_a_vine_is_refused(make, changes, said):
    with pytest.raises(BadInputError, match=said):
        agents.TRPO(dataclasses.replace(CONFIG, **changes), functools.partial(envs.make, make))


def test_a_factory_of_ones_own_is_asked_too():
    def factory(num_envs, seed):
        return envs.make(toys.Matching, num_envs, seed)

    with pytest.raises(BadInputError, match="--sampling vine needs an environment whose state can be saved"):
        agents.TRPO(CONFIG, factory)


def test_a_game_has_a_vine(launch, tmp_path):
    flags = ("--batch-size", "32", "--parallel-envs", "2", "--critic-minibatch", "16", "--vine-length", "2")
    done = launch("trpo", "--env", "Pong", "--sampling", "vine", *flags, "--steps", "100", "--run", "run")
    assert done.returncode == 0, done.stderr
    done = launch("trpo", "--env", "Blackjack-v1", "--sampling", "vine", "--run", "other")
    assert done.returncode == 2
    assert "cannot be saved and restored" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1

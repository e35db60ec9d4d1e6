"""RPG: the estimator against exact enumeration, and what it learns."""

import dataclasses
import functools
import itertools

import gymnasium as gym
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
import toys

import agents
import envs
import rlab
from agents import rpg
from agents.agent import checkpoint_of
from rlab.errors import BadInputError, TrainingError
from rlab.policies.policy import Policy
from rlab.runs.metrics import read_metrics
from rlab.sampling.evaluation import play_episodes, summarize
from rlab.sampling.rollout import play_batch
from rlab.schedules import Schedule

TINY = functools.partial(envs.make, "NBack", n=1, k=2, length=3)
CONFIG = agents.RPG.Config(episodes_per_batch=32, learning_rate=3e-3, discount=1.0, initial_std=1.0)


def _policy(backbone, observe_actions=True):
    env = TINY()
    return Policy(env.single_observation_space, env.single_action_space, backbone, observe_actions)


def _params(policy, seed=0):
    params = policy.initial_parameters(seed)
    return params + np.random.default_rng(seed).normal(0.0, 0.3, params.shape).astype(np.float32)


def _every_trajectory():
    """All symbols and all actions of the tiny task, as one batch: observations [3, 64, 2], actions and rewards."""
    rows = list(itertools.product(itertools.product(range(2), repeat=3), itertools.product(range(2), repeat=3)))
    symbols, actions = (np.array([row[part] for row in rows]).T for part in (0, 1))
    rewards = np.zeros(actions.shape, np.float32)
    rewards[1:] = actions[1:] == symbols[:-1]
    return np.eye(2, dtype=np.float32)[symbols], actions.astype(np.int32), rewards


def _resets(rows, time=3):
    resets = np.zeros((time, rows), np.float32)
    resets[0] = 1.0
    return resets


def _probabilities(policy, params):
    """The probability of every trajectory, float64 [64]."""
    observations, actions, _ = _every_trajectory()
    output, _ = policy.apply(tf.constant(params), observations, policy.initial_state(64), _resets(64), actions)
    log_prob = output.distribution.log_prob(actions).numpy().astype(np.float64)
    return np.exp(log_prob.sum(axis=0)) / 8.0


def _exact_return(policy, params):
    """J(θ)."""
    return float(_probabilities(policy, params) @ _every_trajectory()[2].sum(axis=0))


def _estimate(policy, params, chunk, states=None, length=32, weight=(1.0, 0.0), truncation=0):
    """∇J as the agent has it: from chunks, last to first."""
    gradient = rlab.ops.bptt.compile_gradient(functools.partial(rpg.chunk_loss, policy), 2)
    chunks = [(part, tf.constant(weight, tf.float32)) for part in rlab.ops.bptt.split(chunk, length)]
    if states is None:
        states, state = [], policy.initial_state(chunk.valid.shape[1])
        for part, _ in chunks:
            states.append(state)
            _, state = policy.apply(tf.constant(params), part.observations, state, part.resets, part.actions)
    return -gradient(tf.constant(params), states, chunks, truncation)[0].numpy()


@pytest.mark.parametrize("backbone", ["mlp", "rnn", "lstm"])
@pytest.mark.parametrize("length", [1, 3], ids=["chunks of one step", "one chunk"])
def test_the_estimator_is_the_gradient_of_the_exact_return(backbone, length):
    policy = _policy(backbone)
    params = _params(policy)
    observations, actions, rewards = _every_trajectory()
    weights = _probabilities(policy, params).astype(np.float32)
    advantages = weights * rlab.ops.returns.discounted_returns(rewards, 1.0)
    chunk = rpg.Chunk(observations, _resets(64), actions, np.ones((3, 64), np.float32), advantages)
    gradient = _estimate(policy, params, chunk, length=length)
    for seed in range(4):
        direction = np.random.default_rng(seed).normal(size=params.shape).astype(np.float32)
        direction /= np.linalg.norm(direction)
        step = 0.05
        ahead = {k: _exact_return(policy, params + np.float32(k * step) * direction) for k in (-2, -1, 1, 2)}
        slope = (8 * (ahead[1] - ahead[-1]) - (ahead[2] - ahead[-2])) / (12 * step)
        assert slope == pytest.approx(float(gradient @ direction), abs=1e-5)


def _samples(policy, params, batches, rows=256):
    """Batches of the tiny task under the policy."""
    act, env = rlab.policies.compile_acting(policy), TINY(num_envs=rows)
    state = policy.initial_state(rows)
    return [play_batch(env, act, state, tf.constant(params), 1000 * b, b, 3)[0] for b in range(batches)]


def test_sampled_gradients_are_unbiased_and_baselines_change_their_variance_only():
    policy = _policy("lstm")
    params = _params(policy)
    directions = np.random.default_rng(0).normal(size=(5, policy.size)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    observations, actions, rewards = _every_trajectory()
    weights = _probabilities(policy, params).astype(np.float32) * rlab.ops.returns.discounted_returns(rewards, 1.0)
    whole = rpg.Chunk(observations, _resets(64), actions, np.ones((3, 64), np.float32), weights)
    exact = directions @ _estimate(policy, params, whole, length=3)
    gradient = rlab.ops.bptt.compile_gradient(functools.partial(rpg.chunk_loss, policy), 2)
    batches = _samples(policy, params, 60)
    spreads = {}
    for name in ("none", "constant", "linear", "recurrent"):
        agent = agents.RPG(dataclasses.replace(CONFIG, baseline=name, baseline_learning_rate=0.01), TINY, "lstm")
        baseline, found = rpg.make_baseline(agent.config, agent.policy, 0, None), []
        missing = rpg.chunk_length(agent.config) - 3  # the steps of the episodes; a baseline takes whole chunks
        for number, batch in enumerate([*batches[:20], *batches]):
            padded = batch._replace(
                **{
                    part: np.concatenate(
                        [getattr(batch, part), np.zeros((missing, *getattr(batch, part).shape[1:]), kind)]
                    )
                    for part, kind in (
                        ("observations", np.float32),
                        ("resets", np.float32),
                        ("actions", np.int32),
                        ("rewards", np.float32),
                        ("valid", np.float32),
                    )
                }
            )
            returns = rlab.ops.returns.discounted_returns(padded.rewards, 1.0)
            expected = baseline.predict(padded)
            if number >= 20:
                advantages = (returns - expected)[:3].astype(np.float32)
                chunk = rpg.Chunk(batch.observations, batch.resets, batch.actions, batch.valid, advantages)
                one = (chunk, tf.constant([1 / 256, 0.0]))
                found.append(directions @ -gradient(tf.constant(params), batch.states, [one], 0)[0].numpy())
            baseline.fit(padded, returns, agent.comm)
        found = np.array(found)
        error = np.abs(found.mean(axis=0) - exact) / (found.std(axis=0) / np.sqrt(len(found)))
        assert (error < 3.0).all(), (name, error)
        spreads[name] = found.var(axis=0).mean()
    assert spreads["recurrent"] < 0.7 * spreads["none"]
    assert spreads["constant"] < 0.9 * spreads["none"]
    assert spreads["linear"] < 0.9 * spreads["none"]


SEVEN = functools.partial(envs.make, "CartPoleNoVel-v1", max_episode_steps=7)


@pytest.mark.parametrize("known", [True, False])
def test_a_baseline_without_memory_knows_the_time_where_a_known_limit_ends_episodes(known):
    """Seven rewards of 1 leave 7 − t to come, and nothing but the time tells the steps apart."""
    env = SEVEN if known else functools.partial(envs.make, lambda: gym.make("CartPoleNoVel-v1", max_episode_steps=7))
    config = agents.RPG.Config(
        episodes_per_batch=4,
        learning_rate=3e-3,
        discount=1.0,
        baseline_learning_rate=0.02,
        baseline_clock=True,
        observe_actions=False,
    )
    agent = agents.RPG(config, env, "mlp")
    limit = 7 if known else None
    baseline, act = rpg.make_baseline(agent.config, agent.policy, 0, limit), rlab.policies.compile_acting(agent.policy)
    start, params = agent.policy.initial_state(4), tf.constant(agent.policy.initial_parameters(0))
    batch, _ = play_batch(env(num_envs=4), act, start, params, 0, 0, 16)
    batch = batch._replace(observations=np.zeros_like(batch.observations))
    returns = rlab.ops.returns.discounted_returns(batch.rewards, 1.0)
    for _ in range(300):
        baseline.predict(batch)
        baseline.fit(batch, returns, agent.comm)
    error = np.abs(baseline.predict(batch) - returns)[batch.valid != 0.0].max()
    assert error < 0.5 if known else error > 2.0


def _random_chunk(seed, time=6, rows=5):
    generator = np.random.default_rng(seed)
    return rpg.Chunk(
        generator.normal(size=(time, rows, 2)).astype(np.float32),
        _resets(rows, time),
        generator.integers(2, size=(time, rows)).astype(np.int32),
        np.ones((time, rows), np.float32),
        generator.normal(size=(time, rows)).astype(np.float32),
    )


@pytest.mark.parametrize("backbone", ["mlp", "rnn", "lstm", "dnc", "seq2seq"])
def test_chunks_make_no_difference(backbone):
    policy = _policy(backbone)
    params, chunk = _params(policy), _random_chunk(0)
    whole = _estimate(policy, params, chunk, length=6, weight=(0.2, 0.1))
    for length in (1, 2) if backbone == "lstm" else (2,):
        parts = _estimate(policy, params, chunk, length=length, weight=(0.2, 0.1))
        # An empty DNC memory has keys of length √1e-6, which magnifies rounding a thousandfold.
        assert np.linalg.norm(parts - whole) < 1e-3 * np.linalg.norm(whole)


def test_truncation_lets_no_gradient_pass():
    policy = _policy("lstm")
    params, chunk = _params(policy), _random_chunk(0)
    cut = _estimate(policy, params, chunk, length=3, truncation=1)
    assert np.abs(cut - _estimate(policy, params, chunk, length=3)).max() > 1e-4
    # The second half alone, from a memory that is data, and the first half alone.
    state = policy.apply(
        tf.constant(params), chunk.observations[:3], policy.initial_state(5), chunk.resets[:3], chunk.actions[:3]
    )[1]
    halves = [rpg.Chunk(*(part[half] for part in chunk)) for half in (slice(3), slice(3, 6))]
    apart = _estimate(policy, params, halves[0], length=3)
    apart += _estimate(policy, params, halves[1], states=[state], length=3)
    np.testing.assert_allclose(cut, apart, rtol=1e-3, atol=1e-5)


def test_padding_contributes_nothing():
    policy = _policy("lstm")
    params, chunk, other = _params(policy), _random_chunk(0), _random_chunk(1)
    valid = chunk.valid.copy()
    valid[4:, :3] = 0.0
    found = []
    for filling in (chunk, other):
        mixed = [np.where(_rows(valid, a), a, b) for a, b in zip(chunk, filling, strict=True)]
        padded = rpg.Chunk(*mixed)._replace(valid=valid, advantages=chunk.advantages * valid)
        found.append(_estimate(policy, params, padded, length=3, weight=(0.2, 0.1)))
    np.testing.assert_array_equal(*found)


def _rows(valid, like):
    return valid.reshape(*valid.shape, *[1] * (like.ndim - 2)) != 0.0


@pytest.mark.parametrize("backbone", ["rnn", "lstm", "dnc"])
def test_the_past_matters_and_the_future_does_not(backbone):
    policy = _policy(backbone)
    params, chunk = tf.constant(_params(policy)), _random_chunk(0)

    def logits(observations, actions):
        return policy.apply(params, observations, policy.initial_state(5), chunk.resets, actions)[0].distribution[0]

    before = logits(chunk.observations, chunk.actions).numpy()
    for t in range(6):
        changed = chunk.observations.copy()
        changed[t] += 1.0
        after = logits(changed, chunk.actions).numpy()
        np.testing.assert_array_equal(after[:t], before[:t])
        assert (np.abs(after[t:] - before[t:]).max(axis=(1, 2)) > 1e-5).all()
        actions = chunk.actions.copy()
        actions[t] = 1 - actions[t]
        after = logits(chunk.observations, actions).numpy()
        np.testing.assert_array_equal(after[: t + 1], before[: t + 1])
        assert (np.abs(after[t + 1 :] - before[t + 1 :]).max(axis=(1, 2), initial=1.0) > 1e-5).all()


def test_acting_step_by_step_is_the_unrolled_policy():
    policy = _policy("lstm")
    params = tf.constant(_params(policy))
    (batch,) = _samples(policy, params, 1, rows=4)
    whole, _ = policy.apply(params, batch.observations, policy.initial_state(4), batch.resets, batch.actions)
    state = policy.initial_state(4)
    for t in range(3):
        output, state = policy.apply(params, batch.observations[t : t + 1], state, batch.resets[t : t + 1])
        state = policy.remember(state, tf.constant(batch.actions[t]))
        np.testing.assert_allclose(output.distribution.logits[0], whole.distribution.logits[t], atol=1e-5)


def test_without_memory_it_is_reinforce():
    """Williams 1992: Σ_t R_t ∇ ln π(a_t|x_t), each step by itself."""
    policy = _policy("mlp", observe_actions=False)
    params, chunk = tf.constant(_params(policy)), _random_chunk(0)
    total = np.zeros(policy.size)
    for t, b in itertools.product(range(6), range(5)):
        with tf.GradientTape() as tape:
            tape.watch(params)
            output, _ = policy.apply(params, chunk.observations[t : t + 1, b : b + 1], (), tf.ones((1, 1)))
            log_prob = tf.nn.log_softmax(output.distribution.logits[0, 0])[chunk.actions[t, b]]
        total += chunk.advantages[t, b] * tape.gradient(log_prob, params).numpy()
    np.testing.assert_allclose(_estimate(policy, params, chunk, length=3), total, rtol=1e-3, atol=1e-4)


def _train(run, env, steps, policy=None, seed=0, **changes):
    agent = agents.RPG(
        dataclasses.replace(CONFIG, **changes), functools.partial(envs.make, *env[:1], **env[1]), policy, seed
    )
    return agent.train(run, steps)


def _summary(run, env):
    factory = functools.partial(envs.make, env[0], **env[1])
    return summarize(play_episodes(rlab.load_policy(run), factory, 100, 0))


RECALL = ("DelayedRecall", {"k": 2, "delay": 2})


def test_learns_to_remember_and_cannot_without_memory(tmp_path):
    for backbone in ("lstm", "mlp"):
        _train(tmp_path / backbone, RECALL, 20_000, backbone, observe_actions=False)
    assert _summary(tmp_path / "lstm", RECALL)["success_rate"] > 0.97
    assert _summary(tmp_path / "mlp", RECALL)["success_rate"] < 0.7


def test_previous_actions_are_a_memory_of_their_own(tmp_path):
    """A policy that sees its actions can note the symbol by what it does while it waits."""
    at_once = ("DelayedRecall", {"k": 2, "delay": 0})
    _train(tmp_path / "run", at_once, 20_000, "mlp", learning_rate=1e-2)
    assert _summary(tmp_path / "run", at_once)["success_rate"] > 0.9


@pytest.mark.parametrize(
    ("env", "changes", "score"),
    [
        ((toys.Matching, {}), {"baseline": "linear", "entropy_weight": 1e-3}, 9.0),
        ((toys.Matching, {}), {"baseline": "constant", "optimizer": "rmsprop", "learning_rate": 1e-2}, 9.0),
        ((toys.Reach, {}), {"baseline": "none", "discount": 0.0, "learning_rate": 1e-2, "initial_std": 0.5}, -0.5),
    ],
    ids=["discrete", "another optimizer", "real-valued"],
)
def test_learns(tmp_path, env, changes, score):
    _train(tmp_path / "run", env, 40_000, "mlp", **changes)
    assert _summary(tmp_path / "run", env)["mean_return"] > score


def _weights(run):
    return safetensors.numpy.load_file(run / "policy" / "weights.safetensors")


def _same(first, second):
    return all(np.array_equal(first[name], second[name]) for name in first)


def test_the_same_seed_gives_the_same_bits(tmp_path):
    for name, seed in (("first", 3), ("second", 3), ("other", 4)):
        _train(tmp_path / name, ("CartPoleNoVel-v1", {}), 1500, "lstm", seed)
    first, second, other = (_weights(tmp_path / name) for name in ("first", "second", "other"))
    assert _same(first, second)
    assert not _same(first, other)


@pytest.mark.parametrize("baseline", ["constant", "linear", "recurrent"])
def test_going_on_from_a_checkpoint_changes_no_bit(tmp_path, baseline):
    agent = agents.RPG(
        dataclasses.replace(
            CONFIG, baseline=baseline, optimizer="adamw", normalize_observations=baseline != "constant"
        ),
        functools.partial(envs.make, *RECALL[:1]),
        "rnn",
    )
    straight = agent.learner(Schedule(10_000, 0.4))
    updates = straight.updates()
    [next(updates) for _ in range(3)]
    saved = checkpoint_of(straight)
    [next(updates) for _ in range(3)]
    stopped = agent.learner(Schedule(10_000, 0.4), saved)
    following = stopped.updates()
    [next(following) for _ in range(3)]
    ours, theirs = checkpoint_of(straight), checkpoint_of(stopped)
    assert ours.arrays.keys() == theirs.arrays.keys()
    assert _same(ours.arrays, theirs.arrays)
    assert ours.counters == theirs.counters


def test_policy_and_baseline_know_what_they_have_seen():
    agent = agents.RPG(
        dataclasses.replace(CONFIG, baseline_clock=True, normalize_observations=True, optimizer="adamw"), SEVEN, "rnn"
    )
    learner, seen = agent.learner(Schedule(10_000)), []
    play, updates = learner.play, learner.updates()
    learner.play = lambda params: seen.append(play(params)) or seen[-1]
    for _ in range(3):
        next(updates)
    rows = np.concatenate([batch.observations[batch.valid != 0.0] for batch, _ in seen])
    arrays = checkpoint_of(learner).arrays
    for name, expected in (("mean", rows.mean(axis=0)), ("deviation", rows.std(axis=0))):
        np.testing.assert_allclose(arrays[f"policy/backbone/observation_{name}"], expected, atol=1e-5)
        clocked = arrays[f"baseline/network/backbone/observation_{name}"]
        np.testing.assert_allclose(clocked[:2], expected, atol=1e-5)
    assert clocked[2] == pytest.approx(np.std(np.arange(7) / 7), abs=1e-5)


def test_a_run_resumes_to_more_steps(tmp_path):
    _train(tmp_path / "run", RECALL, 1000, "rnn")
    before = read_metrics(tmp_path / "run")
    result = agents.RPG.resume(tmp_path / "run", functools.partial(envs.make, RECALL[0], **RECALL[1]), 2000)
    assert result.steps >= 2000
    assert read_metrics(tmp_path / "run")[: len(before)] == before


@pytest.mark.parametrize(("env", "message"), [(toys.Leaving, "SystemExit: 3"), (toys.Poisoned, "the reward is nan")])
def test_a_fault_names_the_place_and_the_run_stays_whole(tmp_path, env, message):
    factory = functools.partial(envs.make, lambda: toys.gym.wrappers.TimeLimit(env(), 30))
    with pytest.raises(TrainingError, match=rf"batch \d+, step \d+: .*{message}"):
        agents.RPG(CONFIG, factory, "mlp").train(tmp_path / "run", 100_000)
    assert rlab.runs.Run.open(tmp_path / "run").config["agent"] == "rpg"


@pytest.mark.parametrize(
    ("changes", "env", "message"),
    [
        ({"episodes_per_batch": 0}, {}, "--episodes-per-batch must be at least 1"),
        ({"truncation": 501}, {}, "--truncation is 501, and an episode has no more than 500 steps"),
        ({"optimizer": "adan"}, {}, "did you mean 'Adam'"),
        ({"baseline": "lstm"}, {}, "--baseline cannot be 'lstm'"),
        ({"learning_rate": -1.0}, {}, "--learning-rate must be at least 0"),
    ],
)
def test_bad_settings_are_named(tmp_path, changes, env, message):
    with pytest.raises(BadInputError, match=message):
        _train(tmp_path / "run", ("CartPoleNoVel-v1", env), 100, "lstm", **changes)
    assert not (tmp_path / "run").exists()


def test_a_linear_baseline_needs_vectors(tmp_path):
    with pytest.raises(BadInputError, match="--baseline linear takes vectors, and not one-hot"):
        _train(tmp_path / "run", ("FrozenLake-v1", {}), 100, "mlp", baseline="linear")


def test_an_unknown_memory_is_named(tmp_path):
    with pytest.raises(BadInputError, match="did you mean 'lstm'"):
        _train(tmp_path / "run", RECALL, 100, "lsmt")


@pytest.mark.parametrize("name", ["adam", "SGD", "AdaFactor", "lion", "nadam", "rmsprop"])
def test_optimizers_are_those_of_keras(name):
    assert type(rlab.ops.optimizers.keras_optimizer(name)).__name__.lower() == name.lower()

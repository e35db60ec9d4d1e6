"""Laws of A3C and RPG, and of what all agents share: the terms of losses, what falls, seeds, play, baselines.

Where a training run has to show that a law is used, what costs time in it (compiled gradients, play) is replaced.
"""

import dataclasses
import functools

import gymnasium as gym
import numpy as np
import pytest
import references
import tensorflow as tf
import toys

import agents
import envs
import rlab
from agents import a3c, rpg
from agents.configs import falling
from rlab import ops, seeding
from rlab.parallel.comm import Serial
from rlab.policies.baselines import ConstantBaseline
from rlab.policies.normalization import ReturnMoments
from rlab.policies.policy import Policy
from rlab.sampling import rollout
from rlab.schedules import Schedule
from rlab.types import EpisodeBatch, Trajectory

MATCHING = functools.partial(envs.make, toys.Matching)
POLICY = Policy(toys.Matching.observation_space, toys.Matching.action_space, "mlp")


def _params(seed=0):
    params = POLICY.initial_parameters(seed)
    return tf.constant(params + np.random.default_rng(seed).normal(0.0, 0.3, params.shape).astype(np.float32))


def _seen(*shape, seed=0):
    """Observations, actions and rewards of such a shape."""
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(*shape, 4)).astype(np.float32),
        rng.integers(4, size=shape).astype(np.int32),
        rng.normal(size=shape).astype(np.float32),
    )


# Seeds.


def test_every_worker_has_random_streams_of_its_own():
    runs = [seeding.playing(seed, "worker", i, step) for seed in (0, 1) for i in range(3) for step in (0, 5000)]
    seeds = [number for streams in runs for number in streams]
    assert len(set(seeds)) == len(seeds) == 24
    assert runs[0] == seeding.playing(0, "worker", 0, 0)
    assert seeding.derive(1 << 32, "x") != seeding.derive(0, "x")  # all 64 bits of a seed count


# What all agents share.


def test_discounted_returns_by_hand():
    rewards = np.array([[1.0, 0.0], [2.0, 4.0], [3.0, 0.0]], np.float32)
    found = ops.returns.discounted_returns(rewards, 0.5)
    np.testing.assert_allclose(found, [[2.75, 2.0], [3.5, 4.0], [3.0, 0.0]])


def test_several_choices_are_drawn_apart():
    """Two fair coins of four sides fall alike once in four times, and not always."""
    coins = ops.distributions.MultiCategorical((ops.distributions.Categorical(tf.zeros((4000, 4))),) * 2)
    first, second = coins.sample(tf.constant([1, 2])).numpy().T
    assert (first == second).mean() == pytest.approx(0.25, abs=0.03)


def test_previous_actions_end_with_their_episode():
    policy = Policy(toys.Matching.observation_space, toys.Matching.action_space, "mlp", observe_actions=True)
    params = tf.constant(policy.initial_parameters(0) + 0.1)
    seen = np.zeros((1, 1, 4), np.float32)

    def logits(action, reset):
        state = policy.remember(policy.initial_state(1), tf.constant([action]))
        return policy.apply(params, seen, state, np.array([[reset]], np.float32))[0].distribution.logits.numpy()

    np.testing.assert_array_equal(logits(1, 1.0), logits(2, 1.0))
    assert not np.array_equal(logits(1, 0.0), logits(2, 0.0))


def test_a_part_of_a_checkpoint_is_that_part():
    arrays = {"policy/a": np.ones(1), "policy/b/c": np.ones(2), "policies/a": np.ones(3), "p/a": np.ones(4)}
    found = rlab.state.subset(arrays, "policy")
    assert {name: part.size for name, part in found.items()} == {"a": 1, "b/c": 2}


class Lengths(toys.Matching):
    """An episode of copy i has 3 + i steps, of a reward of 1 each; the copies are seeded with 0, 1, …"""

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self._limit = 3 + seed
        return super().reset(seed=seed)

    def step(self, action):
        seen, _, _, _, info = super().step(action)
        return seen, 1.0, self._time == self._limit, False, info


class Fitness(gym.vector.VectorWrapper):
    """Ends with learned rewards of ten times the true ones."""

    def step(self, actions):
        *outcome, info = self.env.step(actions)
        return *outcome, info | ({"rewarded": 10.0 * info["episode"]["r"]} if "episode" in info else {})


def test_a_batch_holds_first_episodes_alone():
    env = envs.make(Lengths, 3)

    def act(params, observations, state, resets, seed):
        assert resets.all() == (seed[1] == 0)  # memory is cleared at the start and never again
        return tf.zeros(3, tf.int32), tf.zeros(3), state

    batch, episodes = rollout.play_batch(env, act, (), None, 0, 7, 4)
    expected = (np.arange(8)[:, None] < [3, 4, 5]).astype(np.float32)
    np.testing.assert_array_equal(batch.valid, expected)
    np.testing.assert_array_equal(batch.rewards, expected)
    np.testing.assert_array_equal(batch.resets.sum(axis=1), [3] + [0] * 7)
    assert [episode.length for episode in episodes] == [3, 4, 5]
    assert len(batch.states) == 2


def test_fitness_is_of_learned_rewards():
    env = Fitness(envs.make(Lengths, 4))
    act = lambda params, observations, state, resets, seeds: (tf.zeros(len(observations), tf.int32), state)  # noqa: E731
    found = rollout.evaluate_members(env, act, (), tf.zeros(2), 0, 0)
    np.testing.assert_array_equal(found.returns, [[3, 4], [5, 6]])
    np.testing.assert_array_equal(found.lengths, [[3, 4], [5, 6]])
    np.testing.assert_array_equal(found.fitness, [[30, 40], [50, 60]])


# A3C.


def _trajectory():
    observations, actions, rewards = _seen(6, 3)
    rng = np.random.default_rng(1)
    ends = (rng.random((6, 3)) < 0.3).astype(np.float32)
    discounts = (0.9 * (1.0 - ends * (rng.random((6, 3)) < 0.5))).astype(np.float32)
    values, following = rng.normal(size=(2, 6, 3)).astype(np.float32)
    resets = np.concatenate([np.ones((1, 3), np.float32), ends[:-1]])
    return Trajectory(observations, resets, actions, rewards, discounts, ends, values, following, ())


@pytest.mark.parametrize("normalize", [False, True])
def test_a3cs_loss_is_that_of_algorithm_s3(normalize):
    config = agents.A3C.Config(gae_lambda=0.7, value_weight=0.3, normalize_advantages=normalize)
    trajectory, params = _trajectory(), _params()
    losses, values = a3c.loss(POLICY, config, params, trajectory, 0.2)
    output, _ = POLICY.apply(params, trajectory.observations, (), trajectory.resets)
    advantages = references.generalized_advantage(*trajectory[3:6], trajectory.values, trajectory.next_values, 0.7)
    returns = advantages + trajectory.values
    if normalize:
        advantages = (advantages - advantages.mean()) / advantages.std()
    total, policy, value, entropy = references.actor_critic(
        output.distribution.logits.numpy(), output.values.numpy(), trajectory.actions, advantages, returns, 0.3, 0.2
    )
    np.testing.assert_allclose([float(part) for part in losses], [total, policy, value, entropy], rtol=1e-4)
    np.testing.assert_array_equal(values, output.values)


def test_a3c_learns_a_policy_that_sees_its_last_action():
    """The loss is at the values that it acted with: the actions of the rollout come back into the network."""
    made = lambda observed, chosen: Policy(observed, chosen, "mlp", observe_actions=True)  # noqa: E731
    agent = agents.A3C(agents.A3C.Config(workers=1, envs_per_worker=3), "CartPole-v1", made)
    policy = agent.policy
    env = envs.make("CartPole-v1", 3, seed=0)
    act = rlab.policies.compile_acting(policy)
    collector = rollout.Collector(env, act, policy.initial_state(3), 5, 0.99, 0)
    params = tf.constant(policy.initial_parameters(0))
    trajectory, _ = collector.collect(params)
    _, values = a3c.loss(policy, agent.config, params, trajectory, 0.0)
    np.testing.assert_allclose(values, trajectory.values, atol=1e-5)


def test_the_loss_is_differentiated_by_the_policy_alone():
    """Gradients through A or R would make the critic please the policy."""
    logits, values = tf.constant([[0.1, 0.4], [0.3, -0.2]]), tf.constant([0.5, -0.5])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch((logits, values))
        distribution = ops.distributions.Categorical(logits)
        found = ops.losses.actor_critic(distribution, values, tf.constant([0, 1]), 2.0 - values, 1.0 + values, 1.0, 0.0)
    assert not np.any(tape.gradient(found.policy, values, unconnected_gradients=tf.UnconnectedGradients.ZERO))
    np.testing.assert_allclose(tape.gradient(found.value, values), [-1.0, -1.0])  # −2 (R − V)/2, R − V = 1


@pytest.mark.parametrize("kind", [agents.A3C, agents.RPG])
@pytest.mark.parametrize("decay", [False, True])
def test_the_weights_fall_with_the_schedule_where_they_should(kind, decay):
    config = kind.Config(learning_rate=0.5, entropy_weight=0.2, decay_learning_rate=decay, decay_entropy_weight=decay)
    assert falling(config, 0.25) == pytest.approx((0.125, 0.05) if decay else (0.5, 0.2))
    mixed = dataclasses.replace(config, decay_learning_rate=not decay)
    assert falling(mixed, 0.5)[0] == pytest.approx(0.5 if decay else 0.25)
    assert falling(mixed, 0.5)[1] == pytest.approx(0.1 if decay else 0.2)


def _a3c_run(run, monkeypatch, steps, resume=False, **changes):
    """The factory that noted seeds, and the β of each update; nothing is learned."""
    weights, factory = [], toys.Recording(MATCHING)

    def compile_gradient(policy, config):
        def gradient(params, trajectory, entropy_weight):
            weights.append(float(entropy_weight))
            return tf.zeros(policy.size), tf.zeros(len(a3c.METRICS))

        return gradient

    monkeypatch.setattr(a3c, "compile_gradient", compile_gradient)
    config = agents.A3C.Config(envs_per_worker=2, rollout_length=5, entropy_weight=0.4, **changes)
    if resume:
        agents.A3C.resume(run, factory, steps)
    else:
        agents.A3C(config, factory, "mlp").train(run, steps)
    return [seed for seed in factory.seeds if seed], weights  # a probe's is 0


def test_workers_and_resumed_runs_play_other_episodes_and_the_entropys_weight_falls(tmp_path, monkeypatch):
    changes = {"workers": 3, "decay_entropy_weight": True}
    seeds, weights = _a3c_run(tmp_path / "run", monkeypatch, 200, **changes)
    again, _ = _a3c_run(tmp_path / "run", monkeypatch, 400, resume=True)
    assert len(set(seeds + again)) == 6
    assert max(weights) == pytest.approx(0.4)
    assert min(weights) < 0.1


# RPG.


def _episodes(*shape):
    observations, actions, rewards = _seen(*shape)
    valid = np.ones(shape, np.float32)
    valid[-2:, 0] = 0.0
    resets = np.zeros(shape, np.float32)
    resets[0] = 1.0
    return EpisodeBatch(observations, resets, actions, rewards * valid, valid, [()])


def test_rpgs_loss_is_that_of_the_paper():
    batch, params = _episodes(5, 3), _params()
    advantages = np.random.default_rng(2).normal(size=(5, 3)).astype(np.float32) * batch.valid
    chunk = rpg.Chunk(batch.observations, batch.resets, batch.actions, batch.valid, advantages)
    loss, (policy_loss, entropy), _ = rpg.chunk_loss(POLICY, params, (), (chunk, tf.constant([0.25, 0.3])))
    logits = POLICY.apply(params, batch.observations, (), batch.resets)[0].distribution.logits.numpy()
    expected = references.episodic_loss(logits, batch.actions, advantages, batch.valid, 4, 0.3)
    assert float(loss) == pytest.approx(expected[0], rel=1e-4)
    assert [float(policy_loss), float(entropy)] == pytest.approx(expected[1:], rel=1e-4)


class Oracle:
    """Knows all returns but for a third of them; notes what it is asked."""

    def __init__(self, discount):
        self.discount, self.asked = discount, []

    def predict(self, batch):
        self.asked.append("predict")
        return ops.returns.discounted_returns(batch.rewards, self.discount) * np.float32(2 / 3) + 7.0 * (
            1 - batch.valid
        )

    def fit(self, batch, returns, comm):
        self.asked.append("fit")
        np.testing.assert_array_equal(returns, ops.returns.discounted_returns(batch.rewards, self.discount))


def _rpg_learner(monkeypatch, steps=10**9, **changes):
    """A learner whose gradients are known, and what was asked of them; its baseline is an oracle."""
    asked = []

    def compile_gradient(loss, metrics):
        def gradient(params, states, chunks, truncation):
            asked.append((chunks, truncation))
            return tf.fill(params.shape, 3.0), tf.zeros(metrics)

        return gradient

    monkeypatch.setattr(ops.bptt, "compile_gradient", compile_gradient)
    monkeypatch.setattr(ops.sharing, "once", lambda make, *_: make())
    config = agents.RPG.Config(episodes_per_batch=4, discount=0.5, baseline="none", **changes)
    learner = agents.RPG(config, MATCHING, "mlp").learner(Schedule(steps))
    learner.baseline = Oracle(0.5)
    return learner, asked


def test_rpg_weighs_by_returns_less_what_an_earlier_fit_expected(monkeypatch):
    learner, asked = _rpg_learner(monkeypatch, 80, normalize_advantages=False, entropy_weight=0.5, truncation=4)
    learner.config = dataclasses.replace(learner.config, decay_entropy_weight=True)
    updates = [update for update in learner.updates() if update]
    assert learner.baseline.asked == ["predict", "fit"] * 2
    assert [update.steps for update in updates] == [40, 80]
    for (chunks, truncation), left in zip(asked, (1.0, 0.5), strict=True):
        assert truncation == 1
        assert len(chunks) == 3  # ten steps in chunks of four
        whole = [np.concatenate([np.asarray(chunk[i]) for chunk, _ in chunks]) for i in range(5)]
        valid, advantages = whole[3], whole[4]
        assert valid.sum() == 40
        for _, weight in chunks:
            np.testing.assert_allclose(weight, [1 / 4, 0.5 * left])
    for update in updates:
        assert update.metrics["explained_variance"] < 1.0
    assert not advantages[valid == 0.0].any()
    assert updates[1].metrics["gradient_norm"] == pytest.approx(3.0 * np.sqrt(learner.policy.size), rel=1e-4)
    assert updates[1].metrics["learning_rate"] == pytest.approx(0.5 * learner.config.learning_rate)


def test_rpgs_advantages_are_a_third_of_the_returns_where_two_thirds_are_expected(monkeypatch):
    for normalize in (False, True):
        learner, asked = _rpg_learner(monkeypatch, normalize_advantages=normalize)
        seen = []
        play = learner.play
        learner.play = lambda params, play=play, seen=seen: seen.append(play(params)) or seen[-1]
        next(learner.updates())
        batch = seen[0][0]
        expected = ops.returns.discounted_returns(batch.rewards, 0.5) / 3 * batch.valid
        if normalize:
            expected /= np.sqrt(np.square(expected).sum() / batch.valid.sum())
        found = np.concatenate([chunk.advantages for chunk, _ in asked[0][0]])
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_every_batch_of_rpg_is_another(monkeypatch):
    learner, asked = _rpg_learner(monkeypatch)
    updates = learner.updates()
    for _ in range(2):
        next(updates)
    first, second = (np.asarray(chunks[0][0].observations) for chunks, _ in asked)
    assert not np.array_equal(first, second)


def test_a_gradient_is_bounded_and_keeps_its_direction():
    gradient, norm = rpg.bounded(np.array([3.0, 4.0], np.float32), 2.0)
    assert norm == pytest.approx(5.0)
    np.testing.assert_allclose(gradient, [1.2, 1.6], rtol=1e-5)
    np.testing.assert_array_equal(rpg.bounded(np.array([3.0, 4.0], np.float32), 9.0)[0], [3.0, 4.0])


def test_recent_returns_count_more():
    """Weights of 0.1 to the latest batch, and 0.9 times that to the one before."""
    moments = ReturnMoments()
    assert (moments.mean, moments.deviation) == (0.0, 1.0)
    valid = np.array([[1.0], [1.0], [0.0]], np.float32)
    for returns in ([1.0, 3.0, 99.0], [5.0, 9.0, 99.0]):
        moments.add(valid, np.array(returns, np.float32)[:, None], Serial())
    mean = (0.9 * 4.0 + 14.0) / 3.8
    square = (0.9 * 10.0 + 106.0) / 3.8
    assert moments.mean == pytest.approx(mean)
    assert moments.deviation == pytest.approx(np.sqrt(square - mean**2), rel=1e-4)
    constant, batch = ConstantBaseline(), _episodes(3, 1)
    constant.fit(batch, batch.rewards + 2.0, Serial())
    assert constant.predict(batch)[0, 0] == pytest.approx((batch.rewards + 2.0)[batch.valid != 0.0].mean())

"""Laws of the agents, on closed forms and slow twins: the terms of losses, what falls, seeds, baselines, steps of μ, σ.

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
from agents import a3c, rpg, snes, trpo
from rlab import ops, rollout, seeding
from rlab.ops import evolution
from rlab.parallel.comm import Serial
from rlab.policies import trust
from rlab.policies.baselines import ConstantBaseline, ReturnMoments
from rlab.policies.policy import Policy
from rlab.rollout import Evaluation
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


class Recording:
    """A factory that notes the seeds of the environments that it is asked for."""

    def __init__(self, make=MATCHING):
        self.make, self.seeds = make, []

    def __call__(self, num_envs, seed):
        self.seeds.append(seed)
        return self.make(num_envs=num_envs, seed=seed)


# Seeds.


def test_who_plays_has_streams_of_their_own():
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
    found = rlab.runs.subset(arrays, "policy")
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
    config = a3c.Config(gae_lambda=0.7, value_weight=0.3, normalize_advantages=normalize)
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


def test_the_loss_is_differentiated_by_the_policy_alone():
    """Neither A nor R is: a gradient through them would make the critic please the policy."""
    logits, values = tf.constant([[0.1, 0.4], [0.3, -0.2]]), tf.constant([0.5, -0.5])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch((logits, values))
        distribution = ops.distributions.Categorical(logits)
        found = ops.losses.actor_critic(distribution, values, tf.constant([0, 1]), 2.0 - values, 1.0 + values, 1.0, 0.0)
    assert not np.any(tape.gradient(found.policy, values, unconnected_gradients=tf.UnconnectedGradients.ZERO))
    np.testing.assert_allclose(tape.gradient(found.value, values), [-1.0, -1.0])  # −2 (R − V)/2, R − V = 1


@pytest.mark.parametrize("kind", [a3c, rpg])
@pytest.mark.parametrize("decay", [False, True])
def test_the_weights_fall_with_the_schedule_where_they_should(kind, decay):
    config = kind.Config(learning_rate=0.5, entropy_weight=0.2, decay_learning_rate=decay, decay_entropy_weight=decay)
    assert kind.falling(config, 0.25) == pytest.approx((0.125, 0.05) if decay else (0.5, 0.2))
    mixed = dataclasses.replace(config, decay_learning_rate=not decay)
    assert kind.falling(mixed, 0.5)[0] == pytest.approx(0.5 if decay else 0.25)
    assert kind.falling(mixed, 0.5)[1] == pytest.approx(0.1 if decay else 0.2)


def _a3c_run(run, monkeypatch, steps, resume=False, **changes):
    """The factory that noted seeds, and the β of each update; nothing is learned."""
    weights, factory = [], Recording()

    def compile_gradient(policy, config):
        def gradient(params, trajectory, entropy_weight):
            weights.append(float(entropy_weight))
            return tf.zeros(policy.size), tf.zeros(len(a3c.METRICS))

        return gradient

    monkeypatch.setattr(a3c, "compile_gradient", compile_gradient)
    config = a3c.Config(envs_per_worker=2, rollout_length=5, entropy_weight=0.4, **changes)
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
    config = rpg.Config(episodes_per_batch=4, discount=0.5, baseline="none", **changes)
    learner = rpg.Learner(agents.RPG(config, MATCHING, "mlp"), Schedule(steps))
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
        play = learner._play
        learner._play = lambda params, play=play, seen=seen: seen.append(play(params)) or seen[-1]
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


# SNES.


def test_a_step_of_mu_and_sigma_is_that_of_the_paper():
    search = evolution.Search(tf.constant([1.0, -2.0]), tf.constant([0.5, 2.0]))
    found = evolution.Gradient(tf.constant([0.3, -0.4]), tf.constant([0.2, -0.6]))
    moved = evolution.natural_step(search, found, 0.7, 0.9)
    np.testing.assert_allclose(moved.mean, [1.0 + 0.7 * 0.5 * 0.3, -2.0 - 0.7 * 2.0 * 0.4], rtol=1e-6)
    np.testing.assert_allclose(moved.sigma, [0.5 * np.exp(0.45 * 0.2), 2.0 * np.exp(-0.45 * 0.6)], rtol=1e-6)
    default = evolution.natural_step(search, found)
    rate = (3.0 + np.log(2.0)) / (5.0 * np.sqrt(2.0))
    np.testing.assert_allclose(default.sigma, [0.5 * np.exp(rate / 2 * 0.2), 2.0 * np.exp(-rate / 2 * 0.6)], rtol=1e-6)
    np.testing.assert_allclose(default.mean, [1.15, -2.8], rtol=1e-6)


@pytest.mark.parametrize(
    ("size", "rate"), [(1, 0.6), (100, (3.0 + 4.605170) / 50.0), (10_000, (3.0 + 9.210340) / 500.0)]
)
def test_the_rate_of_sigma_is_that_of_snes(size, rate):
    """And not xNES's, 3 (3 + ln D)/(5 D √D)."""
    assert evolution.default_sigma_rate(size) == pytest.approx(rate, rel=1e-6)


def test_the_simple_slope_climbs_and_decays():
    search = evolution.Search(tf.constant([10.0, -10.0, 5.0]), tf.constant([0.2, 0.2, 0.0]))
    found = evolution.Gradient(tf.constant([4.0, 4.0, 4.0]), tf.zeros(3))
    slope = evolution.simple_slope(search, found, 8, 0.2, 0.05)
    np.testing.assert_allclose(slope, [4.0 / 1.6 - 0.5, 4.0 / 1.6 + 0.5, 0.0], rtol=1e-6)


def _snes_learner(monkeypatch, **changes):
    """A learner that plays nothing: a member's return is its number, twice; its lengths are 3."""
    config = snes.Config(population=8, group=4, episodes=2, **changes)
    learner = snes.Learner(agents.SNES(config, MATCHING), Schedule(96))
    played = []

    def evaluate(env, act, memory, params, seed, actions_seed, features, stopping):
        played.append((seed, actions_seed, params[0].numpy()))
        members = np.arange(4.0)[:, None] + 4 * (len(played) % 2 == 0) + np.array([-0.5, 0.5])
        return Evaluation(members, members, np.full((4, 2), 3), None)

    monkeypatch.setattr(snes.rollout, "evaluate_members", evaluate)
    return learner, played


def test_the_simple_form_climbs_by_its_settings(monkeypatch):
    changes = {"optimizer": "sgd", "learning_rate": 0.4, "weight_decay": 0.3, "decay_learning_rate": True}
    learner, played = _snes_learner(monkeypatch, sigma=0.2, **changes)
    updates, mean = learner.updates(), learner.search.mean
    for generation, left in enumerate((1.0, 0.5)):
        update = next(updates)
        found = evolution.tell(
            learner._noise,
            generation,
            tf.constant(evolution.centered_ranks(np.arange(8))),
            learner.policy.size,
            chunk=4,
        )
        slope = evolution.simple_slope(learner.search, found, 8, 0.2, 0.0)
        slope -= 0.3 * mean * tf.cast(learner.search.sigma > 0.0, tf.float32)
        mean = mean + 0.4 * left * slope
        np.testing.assert_allclose(learner.search.mean, mean, atol=1e-5)
        assert update.steps == 48 * (generation + 1)
        assert (update.metrics["best"], update.metrics["mean"]) == (7.0, 3.5)
    # Two groups a generation, whose copies are seeded with successive numbers; their actions have streams of their own.
    environments = [seed for seed, _, _ in played]
    assert environments[1] - environments[0] == environments[3] - environments[2] == 8
    assert len({*environments, *(seed for _, seed, _ in played)}) == 8


def test_adam_climbs_too(monkeypatch):
    """Its first step is the step size in every direction that is searched, up the slope."""
    learner, _ = _snes_learner(monkeypatch, sigma=0.2, learning_rate=0.4)
    before = learner.search
    next(learner.updates())
    utilities = tf.constant(evolution.centered_ranks(np.arange(8)))
    found = evolution.tell(learner._noise, 0, utilities, learner.policy.size, chunk=4)
    steep = (before.sigma.numpy() > 0.0) & (np.abs(found.mean) > 0.1)
    moved = (learner.search.mean - before.mean).numpy()
    np.testing.assert_allclose(moved[steep], 0.4 * np.sign(found.mean.numpy()[steep]), rtol=1e-3)


def test_the_full_form_takes_the_papers_utilities_and_rates(monkeypatch):
    learner, _ = _snes_learner(monkeypatch, form="full", sigma=0.2)
    before = learner.search
    next(learner.updates())
    utilities = tf.constant(evolution.nes_utilities(np.arange(8)))
    found = evolution.tell(learner._noise, 0, utilities, learner.policy.size, chunk=4)
    searched = int((before.sigma.numpy() > 0.0).sum())
    expected = evolution.natural_step(before, found, 1.0, evolution.default_sigma_rate(searched))
    np.testing.assert_allclose(learner.search.mean, expected.mean, atol=1e-6)
    np.testing.assert_allclose(learner.search.sigma, expected.sigma, rtol=1e-5)


def test_what_snes_leaves_open_is_made_up_by_its_form():
    made = [snes.check_sizes(snes.Config(form=form), 1) for form in ("simple", "full")]
    assert [config.utilities for config in made] == ["centered-ranks", "nes"]
    assert [config.learning_rate for config in made] == [0.03, 1.0]
    kept = snes.check_sizes(snes.Config(form="full", utilities="centered-ranks", learning_rate=0.03), 1)
    assert (kept.utilities, kept.learning_rate) == ("centered-ranks", 0.03)


@pytest.mark.parametrize("utilities", [evolution.centered_ranks, evolution.nes_utilities])
def test_nothing_that_is_not_a_number_has_a_rank(utilities):
    with pytest.raises(ValueError, match="the fitness of member 2 is NaN"):
        utilities(np.array([1.0, 5.0, np.nan, np.nan]))
    ends = utilities(np.array([np.inf, 2.0, -np.inf, 1.0]))
    np.testing.assert_array_equal(np.argsort(ends), np.argsort(utilities(np.array([3.0, 2.0, 0.0, 1.0]))))


# TRPO.


def test_advantages_are_standardized_over_all_ranks():
    values = np.random.default_rng(0).normal(3.0, 5.0, (7, 4)).astype(np.float32)
    found = trpo.standardized(values, Serial())
    np.testing.assert_allclose(found, (values - values.mean()) / values.std(), rtol=1e-4, atol=1e-5)

    class Other(Serial):
        def gather(self, value):
            return [ops.moments.of_rows(100.0 + values[:2].reshape(-1, 1)), value]

    both = np.concatenate([100.0 + values[:2], values])
    found = trpo.standardized(values, Other())
    np.testing.assert_allclose(found, (values - both.mean()) / both.std(), rtol=1e-3, atol=1e-4)


def test_what_trpo_plays_is_what_the_equations_say():
    config = trpo.Config(batch_size=80, parallel_envs=4, critic_minibatch=16, gae_lambda=0.8, discount=0.9)
    learner = trpo.Learner(agents.TRPO(config, MATCHING), Schedule(10**9))
    batch, returns, trajectory, episodes = learner.play()
    advantages = references.generalized_advantage(*trajectory[3:8], 0.8)
    np.testing.assert_allclose(returns, advantages + trajectory.values, atol=1e-4)
    standard = (advantages - advantages.mean()) / advantages.std()
    np.testing.assert_allclose(batch.advantages, standard.reshape(1, 80), atol=1e-4)
    assert len(episodes) == 8
    assert trajectory.discounts.max() == np.float32(0.9)


def test_a_resumed_trpo_that_begins_new_episodes_begins_others():
    factory = Recording()
    config = trpo.Config(batch_size=16, parallel_envs=2, critic_minibatch=8, critic_epochs=1)
    agent = agents.TRPO(config, factory)
    learner = trpo.Learner(agent, Schedule(10**9))
    next(learner.updates())
    saved = learner.checkpoint()
    for _ in range(2):  # the second goes on from what the first saved, before it played
        resumed = trpo.Learner(agent, Schedule(10**9), saved)
        assert not resumed.exact
        assert (resumed.steps, resumed.batches) == (16, 1)
        saved = resumed.checkpoint()
    first, second, third = (seed for seed in factory.seeds if seed)  # a probe's is 0
    assert first != second == third


def test_fisher_products_see_every_state_in_time():
    """One in four of 8 steps of 6 environments: two of each environment in a batch, and others in the next."""
    batches = [trust.drawn_steps(8, 6, 4, seed, 0, 6) for seed in range(200)]
    counts = np.zeros(48)
    for chosen in batches:
        assert len(set(chosen)) == 12
        np.testing.assert_array_equal(np.bincount(chosen % 6), [2] * 6)
        counts[chosen] += 1
    assert abs(counts - 50).max() < 5 * np.sqrt(200 * 0.25 * 0.75)
    np.testing.assert_array_equal(batches[3], trust.drawn_steps(8, 6, 4, 3, 0, 6))
    parts = [trust.drawn_steps(8, 2, 4, 3, first, 6) for first in (0, 2, 4)]  # three ranks
    together = sorted(
        int(i) // 2 * 6 + first + int(i) % 2 for first, part in zip((0, 2, 4), parts, strict=True) for i in part
    )
    np.testing.assert_array_equal(together, batches[3])
    turns = [trust.turning_rows(10, 4, turn) for turn in range(10)]
    assert all(len(set(rows)) == 3 for rows in turns)
    np.testing.assert_array_equal(np.bincount(np.concatenate(turns)), [3] * 10)
    assert trust.drawn_steps(2, 3, 5, 0, 0, 3).size == 3  # at least one of each environment


def test_subsampled_products_are_of_the_chosen_columns():
    batch = trust.Batch(*(np.arange(24.0).reshape(2, 12) + i for i in range(4)), (np.arange(12.0),))
    assert trust.subsampled(batch) is batch
    fewer = trust.subsampled(batch._replace(fewer=np.array([1, 5, 10])))
    for name in ("observations", "resets", "actions", "advantages"):
        np.testing.assert_array_equal(getattr(fewer, name), getattr(batch, name)[:, [1, 5, 10]])
    np.testing.assert_array_equal(fewer.state[0], [1.0, 5.0, 10.0])
    image = Policy(gym.spaces.Box(0, 255, (42, 42, 4), np.uint8), gym.spaces.Discrete(2), "small-cnn")
    chosen = [trust.fewer_columns(image, (8, 3), 4, 0, turn) for turn in (0, 0, 1)]
    np.testing.assert_array_equal(chosen[0], chosen[1])
    assert not np.array_equal(chosen[0], chosen[2])
    assert trust.fewer_columns(image, (8, 3), 1, 0, 0) is None
    share = rlab.policies.Share(3, 6)
    np.testing.assert_array_equal(
        trust.fewer_columns(image, (8, 3), 4, 0, 2, share),
        trust.drawn_steps(8, 3, 4, seeding.derive(0, "fisher", 2), 3, 6),
    )

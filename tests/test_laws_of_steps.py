"""Laws of SNES and TRPO, on closed forms and slow twins: steps of μ and σ, utilities, advantages, states, seeds."""

import functools

import numpy as np
import pytest
import references
import tensorflow as tf
import toys

import agents
import envs
import rlab
from agents import snes
from agents.agent import Made, checkpoint_of
from rlab import ops, policies, seeding
from rlab.errors import TrainingError
from rlab.ops import evolution
from rlab.parallel.comm import Serial
from rlab.policies import batches
from rlab.sampling.rollout import Evaluation
from rlab.schedules import Schedule

MATCHING = functools.partial(envs.make, toys.Matching)


# SNES.


def test_a_step_of_mu_and_sigma_is_that_of_the_paper():
    search = evolution.SearchDistribution(tf.constant([1.0, -2.0]), tf.constant([0.5, 2.0]))
    found = evolution.Gradient(tf.constant([0.3, -0.4]), tf.constant([0.2, -0.6]))
    moved = evolution.snes_step(search, found, 0.7, 0.9)
    np.testing.assert_allclose(moved.mean, [1.0 + 0.7 * 0.5 * 0.3, -2.0 - 0.7 * 2.0 * 0.4], rtol=1e-6)
    np.testing.assert_allclose(moved.sigma, [0.5 * np.exp(0.45 * 0.2), 2.0 * np.exp(-0.45 * 0.6)], rtol=1e-6)
    default = evolution.snes_step(search, found)
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
    search = evolution.SearchDistribution(tf.constant([10.0, -10.0, 5.0]), tf.constant([0.2, 0.2, 0.0]))
    found = evolution.Gradient(tf.constant([4.0, 4.0, 4.0]), tf.zeros(3))
    slope = evolution.simple_slope(search, found, 8, 0.2, 0.05)
    np.testing.assert_allclose(slope, [4.0 / 1.6 - 0.5, 4.0 / 1.6 + 0.5, 0.0], rtol=1e-6)


def _snes_learner(monkeypatch, **changes):
    """A learner that plays nothing: a member's return is its number, twice; its lengths are 3."""
    config = agents.SNES.Config(population=8, group=4, episodes=2, **changes)
    learner = agents.SNES(config, MATCHING).learner(Schedule(96))
    played = []

    def evaluate(env, act, memory, params, seed, actions_seed, *_):
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
        found = evolution.natural_gradient(
            learner.noise_seed,
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
    found = evolution.natural_gradient(learner.noise_seed, 0, utilities, learner.policy.size, chunk=4)
    steep = (before.sigma.numpy() > 0.0) & (np.abs(found.mean) > 0.1)
    moved = (learner.search.mean - before.mean).numpy()
    np.testing.assert_allclose(moved[steep], 0.4 * np.sign(found.mean.numpy()[steep]), rtol=1e-3)


def test_the_full_form_takes_the_papers_utilities_and_rates(monkeypatch):
    learner, _ = _snes_learner(monkeypatch, form="full", sigma=0.2)
    before = learner.search
    next(learner.updates())
    utilities = tf.constant(evolution.nes_utilities(np.arange(8)))
    found = evolution.natural_gradient(learner.noise_seed, 0, utilities, learner.policy.size, chunk=4)
    searched = int((before.sigma.numpy() > 0.0).sum())
    expected = evolution.snes_step(before, found, 1.0, evolution.default_sigma_rate(searched))
    np.testing.assert_allclose(learner.search.mean, expected.mean, atol=1e-6)
    np.testing.assert_allclose(learner.search.sigma, expected.sigma, rtol=1e-5)


def test_open_settings_of_snes_are_decided_by_its_form():
    made = [agents.SNES.Config(form=form).of_ranks(1) for form in ("simple", "full")]
    assert [config.utilities for config in made] == ["centered-ranks", "nes"]
    assert [config.learning_rate for config in made] == [0.01, 1.0]
    kept = agents.SNES.Config(form="full", utilities="centered-ranks", learning_rate=0.03).of_ranks(1)
    assert (kept.utilities, kept.learning_rate) == ("centered-ranks", 0.03)


@pytest.mark.parametrize("utilities", [evolution.centered_ranks, evolution.nes_utilities])
def test_nothing_that_is_not_a_number_has_a_rank(utilities):
    with pytest.raises(ValueError, match="the fitness of member 2 is NaN"):
        utilities(np.array([1.0, 5.0, np.nan, np.nan]))
    ends = utilities(np.array([np.inf, 2.0, -np.inf, 1.0]))
    np.testing.assert_array_equal(np.argsort(ends), np.argsort(utilities(np.array([3.0, 2.0, 0.0, 1.0]))))


# TRPO.


@pytest.mark.parametrize("kind", [agents.RPG, agents.SNES, agents.TRPO])
def test_parameters_that_are_not_finite_end_a_run_whatever_its_metrics_say(kind):
    learner = kind(env="CartPole-v1", policy="mlp").learner(Schedule(10**9))
    made = Made({"fine": 1.0}, [], np.array([0.0, np.nan]))
    learner.update = lambda: made
    with pytest.raises(TrainingError, match=r"^(batch|generation) 0, step 0: .* not finite .*, by what was learned"):
        next(learner.updates())


def test_a_deviation_that_is_no_number_ends_a_generation(monkeypatch):
    """NaN is above nothing, so the mean of those that are searched does not show it."""
    step = snes.move

    def move(*given):
        search, state = step(*given)
        first = tf.range(tf.size(search.sigma)) == 0
        return search._replace(sigma=tf.where(first, np.float32(np.nan), search.sigma)), state

    monkeypatch.setattr(snes, "move", move)
    learner, _ = _snes_learner(monkeypatch, sigma=0.21)  # a setting of its own: what is compiled is shared
    with pytest.raises(TrainingError, match=r"generation 0, step 0: .* not finite .*, by what was learned"):
        next(learner.updates())


def test_advantages_are_standardized_over_all_ranks():
    values = np.random.default_rng(0).normal(3.0, 5.0, (7, 4)).astype(np.float32)
    found = rlab.policies.standardized(values, Serial())
    np.testing.assert_allclose(found, (values - values.mean()) / values.std(), rtol=1e-4, atol=1e-5)

    class Other(Serial):
        def gather(self, value):
            return [ops.moments.of_rows(100.0 + values[:2].reshape(-1, 1)), value]

    both = np.concatenate([100.0 + values[:2], values])
    found = rlab.policies.standardized(values, Other())
    np.testing.assert_allclose(found, (values - both.mean()) / both.std(), rtol=1e-3, atol=1e-4)


def test_a_batch_of_trpo_has_the_returns_and_advantages_of_the_equations():
    config = agents.TRPO.Config(batch_size=80, parallel_envs=4, critic_minibatch=16, gae_lambda=0.8, discount=0.9)
    learner = agents.TRPO(config, MATCHING).learner(Schedule(10**9))
    batch, returns, trajectory, episodes = learner.play()
    advantages = references.generalized_advantage(*trajectory[3:8], 0.8)
    np.testing.assert_allclose(returns, advantages + trajectory.values, atol=1e-4)
    standard = (advantages - advantages.mean()) / advantages.std()
    np.testing.assert_allclose(batch.advantages, standard.reshape(1, 80), atol=1e-4)
    assert len(episodes) == 8
    assert trajectory.discounts.max() == np.float32(0.9)


def test_a_resumed_trpo_that_begins_new_episodes_begins_others():
    factory = toys.Recording(MATCHING)
    config = agents.TRPO.Config(batch_size=16, parallel_envs=2, critic_minibatch=8, critic_epochs=1)
    agent = agents.TRPO(config, factory)
    learner = agent.learner(Schedule(10**9))
    next(learner.updates())
    saved = checkpoint_of(learner)
    for _ in range(2):  # the second goes on from what the first saved, before it played
        resumed = agent.learner(Schedule(10**9), saved)
        assert (resumed.steps, resumed.batches) == (16, 1)
        resumed.play()  # only now it needs environments
        saved = checkpoint_of(resumed)
    first, second, third = (seed for seed in factory.seeds if seed)  # a probe's is 0
    assert first != second == third


def test_fisher_products_see_every_state_in_time():
    """One in four of 8 steps of 6 environments: two of each environment in a batch, and others in the next."""
    drawn = [batches.drawn_steps(8, 6, 4, seed, 0, 6) for seed in range(200)]
    counts = np.zeros(48)
    for chosen in drawn:
        assert len(set(chosen)) == 12
        np.testing.assert_array_equal(np.bincount(chosen % 6), [2] * 6)
        counts[chosen] += 1
    assert abs(counts - 50).max() < 5 * np.sqrt(200 * 0.25 * 0.75)
    np.testing.assert_array_equal(drawn[3], batches.drawn_steps(8, 6, 4, 3, 0, 6))
    parts = [batches.drawn_steps(8, 2, 4, 3, first, 6) for first in (0, 2, 4)]  # three ranks
    together = sorted(
        int(i) // 2 * 6 + first + int(i) % 2 for first, part in zip((0, 2, 4), parts, strict=True) for i in part
    )
    np.testing.assert_array_equal(together, drawn[3])
    turns = [batches.turning_rows(10, 4, turn) for turn in range(10)]
    assert all(len(set(rows)) == 3 for rows in turns)
    np.testing.assert_array_equal(np.bincount(np.concatenate(turns)), [3] * 10)
    assert batches.drawn_steps(2, 3, 5, 0, 0, 3).size == 3  # at least one of each environment


def test_each_batch_has_other_states_for_fisher_products():
    config = agents.TRPO.Config(batch_size=80, parallel_envs=4, critic_minibatch=16, fisher_subsampling=4)
    learner = agents.TRPO(config, MATCHING).learner(Schedule(10**9))
    first = learner.play()[0].fewer
    learner.batches += 1
    second = learner.play()[0].fewer
    assert first.size == second.size == 20
    assert not np.array_equal(first, second)


def test_subsampled_products_are_of_the_chosen_columns():
    batch = policies.Batch(*(np.arange(24.0).reshape(2, 12) + i for i in range(4)), (np.arange(12.0),))
    assert policies.subsampled(batch) is batch
    fewer = policies.subsampled(batch._replace(fewer=np.array([1, 5, 10])))
    for name in ("observations", "resets", "actions", "advantages"):
        np.testing.assert_array_equal(getattr(fewer, name), getattr(batch, name)[:, [1, 5, 10]])
    np.testing.assert_array_equal(fewer.state[0], [1.0, 5.0, 10.0])
    chosen = [batches.columns((8, 3), 4, seeding.derive(0, "fisher", turn), turn, False) for turn in (0, 0, 1)]
    np.testing.assert_array_equal(chosen[0], chosen[1])
    assert not np.array_equal(chosen[0], chosen[2])
    assert batches.columns((8, 3), 1, 0, 0, False) is None
    share = rlab.policies.Share(3, 6)
    np.testing.assert_array_equal(
        batches.columns((8, 3), 4, seeding.derive(0, "fisher", 2), 2, False, share),
        batches.drawn_steps(8, 3, 4, seeding.derive(0, "fisher", 2), 3, 6),
    )

"""Critics and normalization: in which scale they see returns and observations, and towards what they learn."""

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf
import toys

from rlab.ops import moments
from rlab.parallel.comm import Serial
from rlab.policies import ActorCriticPair, LinearCritic, NetworkFitter, ObservationNormalizer, Parts, Policy
from rlab.policies.baselines import RecurrentBaseline, with_clock
from rlab.state import pack
from rlab.types import EpisodeBatch, Trajectory

SPACES = toys.Matching.observation_space, toys.Matching.action_space
POLICY = Policy(*SPACES, "mlp")


def _trajectory(values):
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(16, 4, 4)).astype(np.float32)
    zeros, actions = np.zeros((16, 4), np.float32), np.zeros((16, 4), np.int32)
    return Trajectory(observations, zeros, actions, zeros, zeros, zeros, values, zeros, ((), ()))


def test_a_critic_learns_standardized_returns():
    """Returns about 1000: what it says of them, in their own scale, comes nearer, and no two fits have one order."""
    fitter = NetworkFitter(POLICY, Serial(), 0, 3e-3, 5, 16, True)
    trajectory = _trajectory(np.full((16, 4), 1000.0, np.float32))
    returns = (1000.0 + 50.0 * trajectory.observations[..., 0]).astype(np.float32)
    index = fitter.minibatches(16, 4)
    first = fitter.fit(trajectory, returns)
    assert not np.array_equal(index, fitter.minibatches(16, 4))
    fits = [fitter.fit(trajectory, returns) for _ in range(7)]
    assert 0.2 < first.loss < 3.0
    assert fits[-1].loss < 0.5 * first.loss
    assert first.unexplained == pytest.approx(1.0, rel=1e-3)  # a constant explains nothing
    np.testing.assert_allclose(fitter.scale, [returns.mean(), returns.std()], rtol=1e-4)
    values = POLICY.apply(fitter.params, trajectory.observations, (), trajectory.resets)[0].values
    found = fitter.scale[0] + fitter.scale[1] * values
    assert np.square(found - returns).mean() < 0.4 * returns.var()
    perfect = fitter.fit(trajectory._replace(values=returns - 3.0), returns)
    assert perfect.unexplained == pytest.approx(0.0, abs=1e-6)


def test_an_actor_critic_pair_gives_values_in_the_scale_of_the_returns():
    pair = ActorCriticPair(POLICY, POLICY)
    actor, critic = (tf.constant(POLICY.initial_parameters(seed)) for seed in (0, 1))
    seen, resets = np.random.default_rng(0).normal(size=(1, 3, 4)).astype(np.float32), np.zeros((1, 3), np.float32)
    params = pair.join(Parts(actor, critic, tf.constant([10.0, 3.0])))
    output, _ = pair.apply(params, seen, pair.initial_state(3), resets)
    judged = POLICY.apply(critic, seen, (), resets)[0].values
    np.testing.assert_allclose(output.values, 10.0 + 3.0 * judged, rtol=1e-5)
    logits = POLICY.apply(actor, seen, (), resets)[0].distribution.logits
    np.testing.assert_allclose(output.distribution.logits, logits, rtol=1e-5)


def test_a_linear_critic_counts_the_steps_of_an_episode():
    critic = LinearCritic(SPACES[0])
    weights = np.zeros(critic.size, np.float32)
    weights[8] = 100.0  # of τ = t/100
    state, found = critic.initial_state(1), []
    for reset in (1.0, 0.0, 0.0, 1.0, 0.0):
        output, state = critic.apply(weights, np.zeros((1, 1, 4), np.float32), state, np.array([[reset]], np.float32))
        found.append(float(output.values[0, 0]))
    assert found == pytest.approx([0.0, 1.0, 2.0, 0.0, 1.0])


def test_a_recurrent_baseline_learns_and_speaks_of_returns():
    """Before it has learned it expects nothing; then the mean return of 200, at once, and more by and by."""
    rng = np.random.default_rng(0)
    observations, valid = rng.normal(size=(8, 16, 4)).astype(np.float32), np.ones((8, 16), np.float32)
    valid[6:, :8] = 0.0
    resets = np.zeros((8, 16), np.float32)
    resets[0] = 1.0
    batch = EpisodeBatch(observations, resets, np.zeros((8, 16), np.int32), valid, valid, [])
    returns = (200.0 + 20.0 * observations[..., 0]).astype(np.float32)
    returns[valid == 0.0] = 1e6  # padding is nothing to learn of
    baseline, counted = RecurrentBaseline(POLICY, 0, 0.02, 0, 4), valid != 0.0
    assert np.abs(baseline.predict(batch)).max() < 10.0
    errors = []
    for _ in range(40):
        baseline.fit(batch, returns, Serial())
        errors.append(np.square(baseline.predict(batch) - returns)[counted].mean())
    assert errors[0] < 100.0**2
    assert errors[-1] < 0.5 * errors[0]


def test_a_clock_is_one_number_more():
    space = with_clock(gym.spaces.Box(-1.0, 1.0, (2,), np.float32))
    assert space.shape == (3,)
    np.testing.assert_array_equal(space.high, np.inf)


def test_statistics_are_of_all_that_was_seen():
    policy = Policy(*SPACES, "mlp", normalize_observations=True)
    statistics, rng = ObservationNormalizer(policy), np.random.default_rng(0)
    parts = [rng.normal(3.0, 2.0, (7, 2, 4)), rng.normal(-1.0, 1.0, (5, 2, 4))]
    for part in parts:
        statistics.add(part, Serial())
    rows = np.concatenate([part.reshape(-1, 4) for part in parts])
    params = policy.named(statistics.write_to(policy, tf.constant(policy.initial_parameters(0))).numpy())
    np.testing.assert_allclose(params["backbone/observation_mean"], rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(params["backbone/observation_deviation"], rows.std(0), rtol=1e-5)
    again = ObservationNormalizer(policy)
    again.restore(pack(statistics.state()))
    statistics.merge(moments.of_rows(rows))
    again.add(rows, Serial())
    for name, part in pack(statistics.state()).items():
        np.testing.assert_array_equal(part, pack(again.state())[name])

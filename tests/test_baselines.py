import numpy as np

from rlab.policies.baselines import LinearBaseline, linear_features, steps_within_episodes


def test_features_are_those_of_rllab():
    features = linear_features(np.array([[2.0, -30.0]]), np.array([50]))
    np.testing.assert_allclose(features, [[2, -10, 4, 100, 0.5, 0.25, 0.125, 1]])


def test_returns_that_are_linear_in_the_features_are_fitted_exactly():
    generator = np.random.default_rng(0)
    observations, times = generator.normal(size=(30, 4, 3)), generator.integers(0, 200, (30, 4))
    weights = generator.normal(size=10)
    returns = linear_features(observations, times).numpy() @ weights
    baseline = LinearBaseline()
    np.testing.assert_array_equal(baseline.predict_at(observations, times), np.zeros((30, 4)))
    baseline.fit_to(observations, times, returns)
    np.testing.assert_allclose(baseline.predict_at(observations, times), returns, atol=1e-3)


def test_features_that_say_nothing_do_no_harm():
    observations, times = np.zeros((20, 2, 3)), np.zeros((20, 2))
    baseline = LinearBaseline()
    baseline.fit_to(observations, times, np.full((20, 2), 7.0))
    np.testing.assert_allclose(baseline.predict_at(observations, times), 7.0, atol=1e-3)


def test_steps_are_counted_from_each_reset():
    resets = np.array([[1, 0], [0, 0], [1, 0], [0, 1]], np.float32)
    np.testing.assert_array_equal(steps_within_episodes(resets), [[0, 0], [1, 1], [0, 2], [1, 0]])
    np.testing.assert_array_equal(steps_within_episodes(resets, np.array([5, 5]))[:, 1], [5, 6, 7, 0])

import threading

import keras
import numpy as np
import references
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.ops import adam
from rlab.ops.optimizers import rmsprop_update
from rlab.parallel.shared import SharedParameters


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.floats(0.5, 0.999), st.sampled_from([1e-8, 1e-5, 0.1]), st.integers(1, 200))
def test_rmsprop_equals_the_equations_of_the_paper(seed, decay, epsilon, size):
    generator = np.random.default_rng(seed)
    parameters, gradient = generator.normal(size=(2, size))
    square = generator.random(size)
    expected, expected_square = references.rmsprop(parameters, square, gradient, 0.01, decay, epsilon)
    rmsprop_update(parameters, square, gradient, 0.01, decay, epsilon)
    np.testing.assert_allclose(square, expected_square, rtol=1e-10)
    np.testing.assert_allclose(parameters, expected, rtol=1e-10)


def test_a_vector_longer_than_one_slice_is_updated_whole():
    size = 100_001
    parameters, square, gradient = np.zeros(size), np.zeros(size), np.ones(size)
    rmsprop_update(parameters, square, gradient, 0.1, 0.9, 1e-6)
    assert (parameters == parameters[0]).all()
    assert parameters[0] < 0.0


def test_staleness_counts_the_updates_of_others():
    shared = SharedParameters(np.zeros(3), decay=0.9, epsilon=1e-5)
    _, mine = shared.pull()
    _, other = shared.pull()
    assert shared.push(np.ones(3, np.float32), 0.1, other) == 0
    assert shared.push(np.ones(3, np.float32), 0.1, mine) == 1
    assert shared.updates == 2


def test_a_snapshot_does_not_move():
    shared = SharedParameters(np.zeros(3), decay=0.9, epsilon=1e-5)
    snapshot, pulled_at = shared.pull()
    shared.push(np.ones(3, np.float32), 0.1, pulled_at)
    assert (snapshot == 0.0).all()
    assert (shared.vector < 0.0).all()


def test_threads_lose_no_count():
    shared = SharedParameters(np.zeros(10), decay=0.9, epsilon=1e-5)

    def work():
        for _ in range(500):
            shared.push(np.ones(10, np.float32), 1e-3, shared.pull()[1])
            shared.count_steps(5)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared.updates == 2000
    assert shared.steps == 10_000


def test_adam_is_kerass():
    generator = np.random.default_rng(0)
    params, state = tf.constant(generator.normal(size=7).astype(np.float32)), adam.initial_state(7)
    theirs = keras.Variable(params)
    optimizer = keras.optimizers.Adam(0.1)
    for _ in range(5):
        gradient = tf.constant(generator.normal(size=7).astype(np.float32))
        params, state = adam.adam(params, state, gradient, 0.1)
        optimizer.apply([gradient], [theirs])
    np.testing.assert_allclose(params, theirs, atol=1e-5)

import threading

import keras
import numpy as np
import references
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.ops import adam
from rlab.ops.optimizers import rmsprop_update
from rlab.parallel.shared import SharedParameters, Work
from rlab.schedules import Line


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


def _work(pulled_at, worker=0, steps=5):
    return Work(0.1, pulled_at, steps, {}, [], worker)


@given(st.integers(0, 2**31), st.floats(0.0, 0.99), st.integers(1, 300))
def test_at_first_the_mean_square_is_a_plain_mean(seed, decay, made):
    gradients = np.random.default_rng(seed).normal(size=(made, 4)).astype(np.float32)
    shared = SharedParameters(np.zeros(4), decay=decay, epsilon=1e-5)
    for gradient in gradients:
        shared.apply(gradient, _work(shared.updates))
    weights = np.array([min(decay, i / (i + 1)) for i in range(made)])  # with which g is kept at each update
    kept = np.array([np.prod(weights[i + 1 :]) for i in range(made)])
    shares = kept * (1.0 - weights)
    np.testing.assert_allclose(shares.sum(), 1.0, rtol=1e-6)  # so that nothing of the first 0 is left
    if made <= 1.0 / (1.0 - decay):
        np.testing.assert_allclose(shares, 1.0 / made, rtol=1e-6)
    np.testing.assert_allclose(shared.mean_square, shares @ np.square(gradients), rtol=1e-3)


def test_staleness_counts_the_updates_of_others():
    shared = SharedParameters(np.zeros(3), decay=0.9, epsilon=1e-5, workers=2)
    _, mine = shared.pull()
    _, other = shared.pull()
    assert shared.apply(np.ones(3, np.float32), _work(other, 1)) == (0, 5)
    assert shared.apply(np.ones(3, np.float32), _work(mine, 0)) == (1, 10)
    assert shared.updates == 2


def test_a_snapshot_does_not_move():
    shared = SharedParameters(np.zeros(3), decay=0.9, epsilon=1e-5)
    snapshot, pulled_at = shared.pull()
    shared.apply(np.ones(3, np.float32), _work(pulled_at))
    assert (snapshot == 0.0).all()
    assert (shared.vector < 0.0).all()


def test_threads_lose_no_count():
    shared = SharedParameters(np.zeros(10), decay=0.9, epsilon=1e-5, steps=7, updates=3, workers=4)

    def work(worker):
        for _ in range(500):
            shared.apply(np.ones(10, np.float32), _work(shared.pull()[1], worker))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared.updates == 2003
    assert shared.steps == 10_007


def test_parameters_that_move_to_other_memory_are_one_for_all_who_have_it():
    one = SharedParameters(np.arange(5), np.ones(5), decay=0.9, epsilon=1e-5, steps=7, updates=3, workers=2)
    other = SharedParameters(np.zeros(5), decay=0.9, epsilon=1e-5, workers=2)
    memory = np.zeros(one.bytes_in_common(), np.uint8)
    one.move_to(memory, fill=True)
    other.move_to(memory, fill=False)
    assert other.announced() == (Line(0, 0, 0.0), False)  # nothing yet
    one.announce(Line(3, 70, 0.25), over=True)
    assert other.announced() == (Line(3, 70, 0.25), True)
    assert (other.steps, other.updates) == (7, 3)
    assert other.apply(np.ones(5, np.float32), _work(3, 1)) == (0, 12)
    assert one.counts.tolist() == [[0, 0], [1, 5], [3, 7]]  # a row to each worker: no two write to one
    alone = SharedParameters(np.arange(5), np.ones(5), decay=0.9, epsilon=1e-5)
    alone.apply(np.ones(5, np.float32), _work(0))
    assert (one.steps, one.updates) == (12, 4)
    np.testing.assert_array_equal(one.vector, alone.vector)
    np.testing.assert_array_equal(other.mean_square, alone.mean_square)


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

import numpy as np
import references
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.models import dnc
from rlab.models.initializers import seed_stream

B, N, W, R = 2, 5, 3, 2


def _weights(*shape, seed=0, total=1.0):
    """Random weightings along the last axis that sum to `total`."""
    return (np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), shape[:-1]) * total).astype(np.float32)


def _unit(*shape, seed=0):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_content_weights():
    arguments = _normal(B, N, W), _normal(B, R, W, seed=1), 1.0 + 3.0 * _unit(B, R)
    fast = dnc.content_weights(*map(tf.constant, arguments))
    np.testing.assert_allclose(fast, references.dnc_content_weights(*arguments), atol=1e-5)


def test_usage():
    arguments = _unit(B, N), _weights(B, N, total=0.7), _weights(B, R, N, seed=1), _unit(B, R, seed=2)
    np.testing.assert_allclose(
        dnc.next_usage(*map(tf.constant, arguments)), references.dnc_usage(*arguments), atol=1e-6
    )


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), min_size=1, max_size=7))
def test_allocation_with_ties_and_extremes(usage):
    usage = np.array([usage], np.float32)
    fast = dnc.allocation_weights(tf.constant(usage)).numpy()
    np.testing.assert_allclose(fast, references.dnc_allocation(usage), atol=1e-5)
    assert fast.sum() <= 1.0 + 1e-5
    assert (fast >= 0.0).all()


def test_writing():
    arguments = _normal(B, N, W), _weights(B, N), _unit(B, W), _normal(B, W, seed=1)
    np.testing.assert_allclose(
        dnc.written_memory(*map(tf.constant, arguments)), references.dnc_write(*arguments), atol=1e-6
    )


def test_links_over_several_writes():
    link, precedence = np.zeros((B, N, N), np.float32), np.zeros((B, N), np.float32)
    slow_link, slow_precedence = link, precedence
    for step in range(6):
        write = _weights(B, N, seed=step, total=0.9)
        link, precedence = (
            dnc.next_link(*map(tf.constant, (link, precedence, write))).numpy(),
            dnc.next_precedence(tf.constant(precedence), tf.constant(write)).numpy(),
        )
        slow_link, slow_precedence = (
            references.dnc_link(slow_link, slow_precedence, write),
            references.dnc_precedence(slow_precedence, write),
        )
    np.testing.assert_allclose(link, slow_link, atol=1e-6)
    np.testing.assert_allclose(precedence, slow_precedence, atol=1e-6)
    assert (link.sum(axis=1) <= 1.0 + 1e-6).all()
    assert (link.sum(axis=2) <= 1.0 + 1e-6).all()


def test_read_weights():
    arguments = _unit(B, N, N) / N, _weights(B, R, N), _weights(B, R, N, seed=1), _weights(B, R, 3, seed=2)
    fast = dnc.next_read_weights(*map(tf.constant, arguments))
    np.testing.assert_allclose(fast, references.dnc_read_weights(*arguments), atol=1e-6)


def test_sharp_writes_are_read_back_in_the_order_of_writing():
    state = dnc.DNC(2, seed_stream(0), 4, N, W, 1)
    state.build((None, None, 2))
    memory = state.zero_state(1)
    rows = np.eye(W, dtype=np.float32)
    said = dnc.Interface(
        read_keys=tf.constant(rows[:1][None]),
        read_strengths=tf.constant([[50.0]]),
        write_key=tf.zeros((1, W)),
        write_strength=tf.ones(1),
        erase=tf.zeros((1, W)),
        write=tf.zeros((1, W)),
        free_gates=tf.zeros((1, 1)),
        allocation_gate=tf.ones((1, 1)),
        write_gate=tf.ones((1, 1)),
        read_modes=tf.constant([[[0.0, 1.0, 0.0]]]),
    )
    for row in rows:
        memory = dnc.access(memory, said._replace(write=tf.constant(row[None])))
    np.testing.assert_allclose(memory.reads[0, 0], rows[0], atol=1e-3)  # found by content
    forward = said._replace(write_gate=tf.zeros((1, 1)), read_modes=tf.constant([[[0.0, 0.0, 1.0]]]))
    for row in rows[1:]:
        memory = dnc.access(memory, forward)
        np.testing.assert_allclose(memory.reads[0, 0], row, atol=1e-3)
    backward = forward._replace(read_modes=tf.constant([[[1.0, 0.0, 0.0]]]))
    memory = dnc.access(memory, backward)
    np.testing.assert_allclose(memory.reads[0, 0], rows[1], atol=1e-3)


def test_a_whole_dnc_equals_the_paper_step_by_step():
    layer = dnc.DNC(3, seed_stream(0), 4, N, W, R)
    layer.build((None, None, 2))
    for weight in layer.trainable_variables:
        weight.assign_add(np.random.default_rng(1).normal(size=weight.shape, scale=0.5))
    inputs = _normal(5, B, 2)
    parts = layer.controller, layer.interface, layer.output_map
    names = (("kernel", "recurrent", "bias", "peepholes"), ("kernel", "bias"), ("kernel", "bias"))
    weights = [getattr(part, name).numpy() for part, of_part in zip(parts, names, strict=True) for name in of_part]
    np.testing.assert_allclose(layer(tf.constant(inputs))[0], references.dnc(inputs, weights, N, W, R), atol=2e-3)


def test_the_trace_shows_what_the_outputs_used():
    layer = dnc.DNC(2, seed_stream(0), 4, N, W, R)
    layer.build((None, None, 3))
    inputs = tf.constant(_normal(4, B, 3))
    outputs, state = layer(inputs)
    trace = layer.trace(inputs)
    np.testing.assert_allclose(outputs, trace.outputs, atol=1e-6)
    np.testing.assert_allclose(trace.usage[-1], state.usage, atol=1e-6)
    np.testing.assert_allclose(trace.read_weights[-1], state.read_weights, atol=1e-6)
    assert trace.read_weights.shape == (4, B, R, N)

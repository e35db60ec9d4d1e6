import itertools

import numpy as np
import pytest
import references
import tensorflow as tf

from rlab.models.initializers import seed_stream
from rlab.models.seq2seq import Seq2Seq

V, H, S, B, LENGTH = 3, 5, 4, 3, 3
BEGIN, END = 0, 2


def _model(attention, seed=0, scale=1.5):
    """A model with weights large enough that its predictions are far from uniform."""
    model = Seq2Seq(4, V, H, seed_stream(seed), attention)
    model.build()
    generator = np.random.default_rng(seed)
    for weight in model.trainable_variables:
        weight.assign_add(generator.normal(size=weight.shape, scale=scale))
    return model


def _source(seed=0):
    tokens = np.random.default_rng(seed).integers(0, 4, (S, B)).astype(np.int32)
    valid = np.ones((S, B), np.float32)
    valid[3, 0] = valid[2:, 1] = 0.0
    return tokens, valid


def _log_probability(model, source, valid, tokens):
    """Σ log p of tokens [T, B] up to and with the first END, under teacher forcing."""
    previous = np.concatenate([np.full((1, B), BEGIN), tokens[:-1]]).astype(np.int32)
    log_p = tf.nn.log_softmax(model(tf.constant(source), tf.constant(valid), tf.constant(previous))).numpy()
    total = np.zeros(B)
    for b in range(B):
        for t in range(len(tokens)):
            total[b] += log_p[t, b, tokens[t, b]]
            if tokens[t, b] == END:
                break
    return total


@pytest.mark.parametrize("attention", [False, True])
def test_padding_of_the_source_is_hidden_exactly(attention):
    model, (source, valid) = _model(attention), _source()
    previous = tf.constant(np.random.default_rng(1).integers(0, V, (LENGTH, B)), tf.int32)
    logits = model(tf.constant(source), tf.constant(valid), previous)
    other = np.where(valid == 0.0, (source + 1) % 4, source)
    np.testing.assert_array_equal(logits, model(tf.constant(other), tf.constant(valid), previous))
    short = model(tf.constant(source[:2, 1:2]), tf.ones((2, 1)), previous[:, 1:2])
    np.testing.assert_allclose(logits[:, 1:2], short, atol=1e-5)


def test_attention_equals_its_equations():
    model, (source, valid) = _model(True), _source()
    encoded = model.encode(tf.constant(source), tf.constant(valid))
    outputs = np.random.default_rng(2).normal(size=(2, B, H)).astype(np.float32)
    fast = model.attention(encoded, tf.constant(outputs)).numpy()
    slow = references.attention(encoded.outputs.numpy(), valid, outputs, model.score.kernel.numpy())
    np.testing.assert_allclose(fast, slow, atol=1e-5)
    assert (fast[:, 1, 2:] == 0.0).all()
    # Equation 5: tanh(W_c [context; output]), then the softmax layer.
    previous = tf.zeros((2, B), tf.int32)
    logits, _ = model.decode(encoded, previous, encoded.state)
    states, _ = model.decoder(tf.one_hot(previous, V), encoded.state)
    weights = references.attention(encoded.outputs.numpy(), valid, states.numpy(), model.score.kernel.numpy())
    context = np.einsum("tbs,sbh->tbh", weights, encoded.outputs.numpy())
    joined = np.concatenate([context, states.numpy()], -1)
    attended = np.tanh(joined @ model.combine.kernel.numpy() + model.combine.bias.numpy())
    np.testing.assert_allclose(logits, attended @ model.head.kernel.numpy() + model.head.bias.numpy(), atol=1e-4)


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_scores_are_exact_and_beam_is_never_below_greedy(attention, seed):
    model, (source, valid) = _model(attention, seed), _source(seed)
    arguments = tf.constant(source), tf.constant(valid)
    greedy = model.greedy(*arguments, LENGTH, BEGIN, END)
    beam = model.beam(*arguments, 2, LENGTH, BEGIN, END)
    for hypotheses in (greedy, beam):
        for k in range(hypotheses.scores.shape[1]):
            tokens = hypotheses.tokens.numpy()[:, :, k]
            np.testing.assert_allclose(
                hypotheses.scores[:, k], _log_probability(model, source, valid, tokens), atol=1e-4
            )
    assert (beam.scores[:, 0] >= greedy.scores[:, 0]).numpy().all()
    assert (beam.scores[:, 0] >= beam.scores[:, 1]).numpy().all()


def test_a_wide_beam_is_exhaustive():
    model, (source, valid) = _model(True, 3), _source()
    beam = model.beam(tf.constant(source), tf.constant(valid), 30, LENGTH, BEGIN, END)
    different = set()
    for sequence in itertools.product(range(V), repeat=LENGTH):
        end = sequence.index(END) if END in sequence else LENGTH
        different.add((*sequence[:end], *[END] * (LENGTH - end)))
    scores = [_log_probability(model, source, valid, np.tile(np.array(s)[:, None], (1, B))) for s in different]
    assert len(different) == 15
    np.testing.assert_allclose(beam.scores[:, :15], -np.sort(-np.array(scores), axis=0).T, atol=1e-4)
    assert (beam.scores[:, 15:].numpy() == -np.inf).all()
    for b in range(B):
        assert {tuple(tokens) for tokens in beam.tokens.numpy()[:, b, :15].T.tolist()} == different


def test_greedy_takes_the_likeliest_token():
    model, (source, valid) = _model(False, 1), _source()
    found = model.greedy(tf.constant(source), tf.constant(valid), LENGTH, BEGIN, END).tokens.numpy()[:, :, 0]
    previous = np.concatenate([np.full((1, B), BEGIN), found[:-1]]).astype(np.int32)
    logits = model(tf.constant(source), tf.constant(valid), tf.constant(previous)).numpy()
    for b in range(B):
        for t in range(LENGTH):
            assert found[t, b] == logits[t, b].argmax()
            if found[t, b] == END:
                assert (found[t:, b] == END).all()
                break


def test_the_gradient_reaches_every_parameter():
    model, (source, valid) = _model(True), _source()
    previous = tf.constant(np.random.default_rng(1).integers(0, V, (LENGTH, B)), tf.int32)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(tf.square(model(tf.constant(source), tf.constant(valid), previous)))
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(value, model.trainable_variables), strict=True
    ):
        assert np.isfinite(gradient).all(), variable.path
        assert np.abs(gradient).max() > 0.0, variable.path

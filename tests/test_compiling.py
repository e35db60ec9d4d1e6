"""The two ways in which a network runs are one function, and which is the faster is measured once."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlab.models.cnn import A3C_CONVOLUTIONS, CNN, NATURE_CONVOLUTIONS, ConvSpec, StridedConv2D
from rlab.models.initializers import seed_stream
from rlab.ops import compiling
from rlab.ops.compiling import PRECISIONS
from rlab.policies.backbones import SMALL_CONVOLUTIONS, TINY_CONVOLUTIONS

# (images, the convolution), as each convolution of a backbone meets them for frames of these sizes.
FRAMES = {"a3c": (84, 4), "nature": (84, 4), "small": (42, 4), "odd": (61, 3), "tiny": (9, 3)}
BACKBONES = {
    "a3c": A3C_CONVOLUTIONS,
    "nature": NATURE_CONVOLUTIONS,
    "small": SMALL_CONVOLUTIONS,
    "odd": SMALL_CONVOLUTIONS,
    "tiny": TINY_CONVOLUTIONS,
}


def _layers():
    for name, (side, channels) in FRAMES.items():
        for spec in BACKBONES[name]:
            yield side, channels, spec
            side = (side - spec.kernel) // spec.stride + 1 if spec.padding == "valid" else side
            channels = spec.filters


def _with_gradients(layer, *formulation):
    def run(images, upstream):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images)
        return outputs, *tape.gradient(outputs, [images, *layer.trainable_variables], upstream)

    return compiling.compiled(run, compiling.Formulation(*formulation))


@pytest.mark.parametrize(("side", "channels", "spec"), [*_layers(), (20, 2, ConvSpec(3, 5, 3))])
def test_both_formulations_of_a_convolution_and_its_gradient_agree(side, channels, spec):
    layer = StridedConv2D(spec.filters, spec.kernel, spec.stride, spec.padding, activation="relu")
    layer.build((3, side, side, channels))
    layer.bias.assign(np.random.default_rng(0).normal(0.0, 0.1, spec.filters))
    images = tf.constant(np.random.default_rng(1).normal(size=(3, side, side, channels)), tf.float32)
    # Sums of many products are compared by the scale of what is summed.
    upstream = tf.constant(np.random.default_rng(2).normal(size=layer(images).shape), tf.float32)
    graph, xla = (_with_gradients(layer, compiler)(images, upstream) for compiler in compiling.COMPILERS)
    for one, other in zip(graph, xla, strict=True):
        assert np.abs(one - other).max() <= 1e-5 * max(1.0, np.abs(one).max())


@pytest.mark.parametrize("compiler", compiling.COMPILERS)
def test_bfloat16_is_near_float32_and_its_sums_are_as_exact(compiler):
    network = CNN(A3C_CONVOLUTIONS, 256, seed_stream(0))
    network.build((16, 84, 84, 4))
    images = tf.constant(np.random.default_rng(0).normal(size=(16, 84, 84, 4)), tf.float32)
    upstream = tf.constant(np.random.default_rng(1).normal(size=(16, 256)), tf.float32)
    exact, rounded = (_with_gradients(network, compiler, precision)(images, upstream) for precision in PRECISIONS)
    assert all(part.dtype == tf.float32 for part in rounded)
    errors = [np.linalg.norm(one - other) / np.linalg.norm(one) for one, other in zip(exact, rounded, strict=True)]
    assert 1e-4 < errors[0] < 0.01  # 8 bits of mantissa are 0.4 % of a number
    assert max(errors) < 0.15  # of the gradients, where some rectifiers open that were closed, or the other way


def test_strides_are_blocks_under_xla_alone():
    seen = {}

    def look(name, x):
        seen[name] = compiling.wants_blocks()
        return x

    for compiler in compiling.COMPILERS:
        compiling.compiled(look, compiling.Formulation(compiler))(compiler, tf.zeros(()))
    assert seen == {"xla": True, "graph": False}
    assert compiling.wants_blocks()  # of who says nothing


def test_a_piece_of_a_graph_is_compiled_by_xla_and_gives_the_same():
    values = tf.constant([[1.0, 2.0], [3.0, 5.0]])
    swapped = lambda x: compiling.fused(lambda y: tf.transpose(y) * 2.0, x)  # noqa: E731
    graph = compiling.compiled(swapped, compiling.Formulation("graph"))
    assert np.array_equal(graph(values), 2.0 * values.numpy().T)
    assert np.array_equal(compiling.compiled(swapped)(values), 2.0 * values.numpy().T)
    (call,) = [node for node in graph.get_concrete_function(values).graph.get_operations() if "Call" in node.type]
    assert call.get_attr("_XlaMustCompile")

    def double(x):
        return 2.0 * x

    number = tf.zeros(())
    assert "HloModule" in compiling.compiled(double).experimental_get_compiler_ir(number)()
    with pytest.raises(ValueError, match="jit_compile"):
        compiling.compiled(double, compiling.Formulation("graph")).experimental_get_compiler_ir(number)

    layer = StridedConv2D(4, 4, 2)
    layer.build((1, 8, 8, 1))
    images = tf.TensorSpec((1, 8, 8, 1))
    operations = [
        [
            node.type
            for node in compiling.compiled(layer.call, compiling.Formulation(compiler))
            .get_concrete_function(images)
            .graph.get_operations()
        ]
        for compiler in ("graph", "xla")
    ]
    assert "Transpose" not in operations[0]
    assert "Transpose" in operations[1]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "rlab" / "compilers"


def _calls(slow, counts):
    def call(name):
        def once():
            counts[name] = counts.get(name, 0) + 1
            if name == slow:
                tf.linalg.matmul(tf.ones((300, 300)), tf.ones((300, 300))).numpy()
                keras.ops.sum(tf.ones(100_000)).numpy()

        return once

    return {name: call(name) for name in ("graph", "xla")}


@pytest.mark.parametrize("slow", ["graph", "xla"])
def test_the_faster_is_measured_once(cache, slow):
    counts = {}
    chosen, seconds = compiling.fastest(_calls(slow, counts), "a", 1)
    assert chosen == {"graph": "xla", "xla": "graph"}[slow]
    assert seconds[chosen] < seconds[slow]
    (file,) = cache.iterdir()
    written = file.stat().st_mtime_ns
    again, kept = compiling.fastest(_calls(chosen, {}), "a", 1)  # it would be measured the other way
    assert (again, kept) == (chosen, seconds)
    assert file.stat().st_mtime_ns == written
    other, _ = compiling.fastest(_calls(chosen, counts), "a", 2)
    assert other == slow


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", '{"graph": 1}', '{"graph": "fast", "xla": 1}', '{"graph": 1, "xla": NaN}', "\x00"]
)
def test_a_damaged_cache_is_measured_anew(cache, content):
    compiling.fastest(_calls("xla", {}), "a")
    (file,) = cache.iterdir()
    file.write_text(content)
    counts = {}
    assert compiling.fastest(_calls("xla", counts), "a")[0] == "graph"
    assert counts["graph"] == 1 + compiling._ROUNDS
    assert json.loads(file.read_text()).keys() == {"graph", "xla"}


def test_without_a_cache_it_is_measured_each_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    counts = {}
    for _ in range(2):
        assert compiling.fastest(_calls("xla", counts), "a")[0] == "graph"
    assert counts["graph"] == 2 * (1 + compiling._ROUNDS)

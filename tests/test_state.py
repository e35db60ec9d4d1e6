"""Named parts of a training's state: what is packed is unpacked, and what does not fit is named."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from rlab.errors import BadInputError
from rlab.state import pack, subset, unpack


class Pair(NamedTuple):
    first: Any
    second: Any


ARRAYS = st.tuples(
    st.sampled_from(["float32", "float64", "int64", "bool"]), st.lists(st.integers(0, 3), max_size=3)
).map(lambda kind: np.ones(kind[1], kind[0]))
LEAVES = ARRAYS | ARRAYS.map(tf.constant) | st.integers(0, 2**53)
NAMES = st.text("abc_", min_size=1, max_size=4)
PARTS = st.dictionaries(
    NAMES, st.recursive(LEAVES, lambda part: st.dictionaries(NAMES, part, min_size=1) | st.builds(Pair, part, part))
)


def _same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, Pair):
        return isinstance(other, Pair) and all(map(_same, one, other))
    return type(one) is type(other) and np.array_equal(one, other) and np.asarray(one).dtype == np.asarray(other).dtype


@given(PARTS)
def test_unpacking_undoes_packing(parts):
    assert _same(unpack(parts, pack(parts)), parts)


def test_names_are_paths_and_a_part_is_found_by_its_own():
    arrays = pack({"adam": Pair(np.zeros(2), 3), "adam_too": np.ones(1)})
    assert sorted(arrays) == ["adam/first", "adam/second", "adam_too"]
    assert sorted(subset(arrays, "adam")) == ["first", "second"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"adam/first": np.zeros(3)}, r"'adam/first' is float64 \(3,\), where float64 \(2,\)"),
        ({"adam/first": np.zeros(2, np.float32)}, "'adam/first' is float32"),
        ({"adam/second": np.zeros(2, np.int64)}, "'adam/second' is int64"),
    ],
)
def test_an_array_that_does_not_fit_is_named(change, named):
    fresh = {"adam": Pair(np.zeros(2), 3)}
    with pytest.raises(BadInputError, match=named):
        unpack(fresh, pack(fresh) | change)


def test_a_vector_of_one_number_is_that_number():
    """So ranks have sent the count of rows in earlier checkpoints."""
    found = unpack({"rows": np.zeros(())}, {"rows": np.array([7.0])})
    assert found["rows"].shape == ()
    assert found["rows"] == 7.0

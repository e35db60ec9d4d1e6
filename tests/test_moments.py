"""Running moments: parts of a stream, merged in any way, are the whole stream's."""

import functools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rlab.ops import moments

ROWS = arrays(np.float64, st.tuples(st.integers(1, 30), st.just(2)), elements=st.floats(-1e3, 1e3))


@given(ROWS, st.lists(st.integers(0, 30), max_size=4))
def test_merged_parts_are_the_whole(rows, cuts):
    parts = [moments.of_rows(part) for part in np.split(rows, sorted(cuts))]
    forth = functools.reduce(moments.merge, parts, moments.empty(2))
    back = functools.reduce(moments.merge, reversed(parts), moments.empty(2))
    for merged in (forth, back):
        assert merged.rows == len(rows)
        np.testing.assert_allclose(merged.mean, rows.mean(axis=0), atol=1e-9)
        np.testing.assert_allclose(merged.deviation, rows.std(axis=0), atol=1e-9 * max(1.0, np.abs(rows).max()) ** 2)


def test_far_from_zero_nothing_is_lost():
    """The formula Σx² − (Σx)²/N would have no digit left."""
    rows = 1e8 + np.random.default_rng(0).normal(size=(1000, 1))
    merged = functools.reduce(moments.merge, map(moments.of_rows, np.array_split(rows, 7)))
    np.testing.assert_allclose(merged.deviation, rows.std(axis=0), rtol=1e-6)

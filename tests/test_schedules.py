import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlab.errors import BadInputError
from rlab.schedules import Schedule
from rlab.types import Episode


@given(st.integers(1, 10**9), st.lists(st.floats(0.0, 1.0), min_size=2, max_size=20))
def test_it_falls_from_one_to_zero(steps, parts):
    schedule = Schedule(steps)
    assert schedule.left(0) == 1.0
    assert schedule.left(steps) == 0.0
    values = [schedule.left(round(part * steps)) for part in sorted(parts)]
    assert values == sorted(values, reverse=True)
    assert schedule.done(steps)
    assert not schedule.done(steps - 1)


def test_it_cools_down_once_the_target_is_reached():
    schedule = Schedule(1000, 5.0)
    schedule.add([Episode(9.0, 1)] * 99, 100)
    assert schedule.left(100) == pytest.approx(0.9)  # a hundred episodes are needed
    schedule.add([Episode(4.0, 1)], 200)
    assert schedule.left(200) == pytest.approx(0.8)
    assert schedule.left(225) == pytest.approx(0.4)
    assert schedule.left(250) == 0.0
    assert schedule.done(250)
    assert not schedule.done(249)
    schedule.add([Episode(99.0, 1)] * 100, 240)  # it cools already
    assert schedule.done(250)


def test_a_score_that_does_not_last_warms_it_up_again():
    schedule = Schedule(1000, 5.0)
    schedule.add([Episode(9.0, 1)] * 100, 200)
    schedule.add([Episode(1.0, 1)] * 100, 240)
    assert not schedule.done(250)
    assert schedule.left(250) == pytest.approx(0.75)  # as if it had never cooled
    schedule.add([Episode(9.0, 1)] * 100, 300)
    assert schedule.left(325) == pytest.approx(0.35)
    assert schedule.done(350)
    schedule.add([Episode(1.0, 1)] * 100, 350)  # what a slower worker still brings changes nothing
    assert schedule.done(350)


def test_it_never_ends_later_than_it_would():
    schedule = Schedule(1000, 5.0)
    schedule.add([Episode(9.0, 1)] * 100, 980)
    assert schedule.left(980) == pytest.approx(0.02)
    assert schedule.done(1000)


def test_without_a_target_scores_change_nothing():
    schedule = Schedule(1000)
    schedule.add([Episode(99.0, 1)] * 200, 10)
    assert schedule.left(500) == 0.5


def test_a_schedule_goes_on_where_it_was():
    one, other = Schedule(1000, 5.0), Schedule(1000, 5.0)
    one.add([Episode(6.0, 10)] * 100, 200)
    assert not one.done(200)
    other.restore(json.loads(json.dumps(one.state())))
    assert [one.left(t) for t in range(200, 260, 7)] == [other.left(t) for t in range(200, 260, 7)]
    assert not other.done(249)
    assert other.done(250)
    more = Schedule(2000)  # more steps are asked for, and no target
    more.restore(one.state())
    assert more.left(1000) == 0.5


def test_the_fall_goes_on_from_where_it_was_with_more_steps():
    begun = json.loads(json.dumps(Schedule(1000).state()))
    more = Schedule(3000)
    more.restore(begun, 600)  # stopped there: it is at 0.4
    assert more.left(600) == pytest.approx(0.4)
    assert more.left(1800) == pytest.approx(0.2)
    assert more.done(3000)
    again = Schedule(3000)
    again.restore(json.loads(json.dumps(more.state())), 1800)  # and with the same steps, the very same
    assert [again.left(t) for t in range(1800, 3001, 100)] == [more.left(t) for t in range(1800, 3001, 100)]
    finished = Schedule(2000)
    finished.restore(begun, 1000)  # it was at 0: a step size of 0 would learn nothing more
    assert finished.left(1000) == 0.5


@pytest.mark.parametrize(
    "change",
    [
        {"cooling": [1]},
        {"cooling": "x"},
        {"slow": [5, 5, 1.0]},
        {"slow": [0, 9, 2.0]},
        {"recent": 3},
        {"recent": ["x"]},
    ],
)
def test_a_damaged_schedule_is_refused(change):
    with pytest.raises(BadInputError, match="damaged"):
        Schedule(1000, 5.0).restore(Schedule(1000, 5.0).state() | change)

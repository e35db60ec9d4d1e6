"""The watch of ranks over each other, without ranks."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from rlab.errors import BadInputError, TrainingError, fault_at
from rlab.parallel import comm, heartbeat, meeting


def _seconds(neighbour, number):
    """The first fault in so many seconds of silence, and when."""
    for second in range(1, number + 1):
        if fault := neighbour.fault(1.0):
            return second, fault
    return None


def test_silence_is_a_fault_and_a_sign_of_life_begins_it_anew():
    neighbour = heartbeat.Neighbour(0, 1, lambda: False)
    assert _seconds(neighbour, 12) is None
    neighbour.hear(ended=False)
    assert _seconds(neighbour, 20) == (13, "rank 0 is lost or hangs: nothing was heard of it for 12 s")


def test_a_job_that_is_stopped_and_continued_goes_on(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock, steps, neighbour = heartbeat.Clock(), heartbeat.Steps(), heartbeat.Neighbour(0, 1, lambda: False)
    with heartbeat.stepping():
        for slept in [1.0, 1.0, 3600.0, *[1.0] * 8]:
            now[0] += slept
            passed = clock.passed()
            assert neighbour.fault(passed) is None
            assert not steps.stuck(passed)
        assert [steps.stuck(1.0) for _ in range(2)] == [False, True]  # ten seconds after it was continued
    # The others may be continued later than this rank: they have a minute.
    assert _seconds(neighbour, 60) == (53, "rank 0 is lost or hangs: nothing was heard of it for 12 s")


def test_a_rank_that_is_seen_to_be_stopped_is_waited_for_with_one_line(capfd):
    stopped = [True]
    neighbour = heartbeat.Neighbour(3, 4, lambda: stopped[0])
    assert _seconds(neighbour, 200) is None
    assert capfd.readouterr().err == "rank 3 is stopped, and waited for until it is continued (SIGCONT)\n"
    stopped[0] = False
    assert _seconds(neighbour, 20)[1].startswith("rank 3 is lost or hangs")


def test_the_end_of_a_neighbours_training_is_not_silence_and_this_one_must_follow():
    neighbour = heartbeat.Neighbour(0, 1, lambda: False)
    neighbour.hear(ended=True)
    assert _seconds(neighbour, 100) == (61, "rank 1 hangs: rank 0 ended its training 60 s ago")


def test_a_step_hangs_in_seconds_and_a_reset_may_take_longer():
    steps = heartbeat.Steps()
    with heartbeat.stepping(heartbeat.RESET):
        with heartbeat.stepping():
            assert not steps.stuck(1.0)
        assert [steps.stuck(1.0) for _ in range(70)].index(True) == 60
    with heartbeat.stepping():
        assert [steps.stuck(1.0) for _ in range(70)].index(True) == 10
    assert not steps.stuck(1.0)
    for _ in range(30):  # many short ones are none that hangs
        with heartbeat.stepping():
            assert not steps.stuck(1.0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no /proc")
def test_a_stopped_process_is_seen():
    with subprocess.Popen(["sleep", "60"]) as child:
        seen = heartbeat.process(child.pid)
        states = [seen.stopped()]
        for number in (signal.SIGSTOP, signal.SIGCONT):
            os.kill(child.pid, number)
            deadline = time.monotonic() + 5
            while seen.stopped() == states[-1] and time.monotonic() < deadline:
                time.sleep(0.01)
            states.append(seen.stopped())
        os.kill(child.pid, signal.SIGSTOP)
        assert not seen._replace(born="0").stopped()  # another that was given its number
        child.kill()
    assert states == [False, True, False]
    assert not seen.stopped()


class Ranks:
    """A communicator of as many ranks as the others' values that it is given."""

    def __init__(self, *others, rank=0):
        self.rank, self.size, self._others = rank, 1 + len(others), others

    def gather(self, value):
        return [value, *self._others]


def test_facts_that_differ_between_ranks_are_named():
    mine = {"--steps": 100, "--learning-rate": 0.2, "--target-score": None, "source code": "abc"}
    meeting.require_same(Ranks({"--steps": 100, "--learning-rate": 0.2, "source code": "abc"}), mine)
    other = {"--steps": 100, "--learning-rate": 0.1, "--corridor": 5, "source code": "abc"}
    same = {"--steps": 100, "--learning-rate": 0.2, "source code": "abc"}
    with pytest.raises(BadInputError) as raised:
        meeting.require_same(Ranks(same, other), mine)
    assert str(raised.value) == (
        "the ranks differ: rank 2 has --learning-rate 0.1, rank 0 has --learning-rate 0.2; rank 2 has --corridor 5, "
        "rank 0 has no --corridor; start all with the same command and the same code"
    )
    five = {f"--flag-{i}": i for i in range(5)}
    with pytest.raises(BadInputError, match="no --flag-2, and 2 more; start all"):
        meeting.require_same(Ranks(five), {})


class UnsentError(Exception):
    """Cannot be made again from what it holds."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


@pytest.mark.parametrize(
    ("raised", "here", "there"),
    [
        (BadInputError("no such run"), BadInputError, BadInputError("no such run")),
        (UnsentError(1, 2), UnsentError, TrainingError("UnsentError: 1 and 2")),
        (SystemExit(3), SystemExit, TrainingError("SystemExit: 3")),
    ],
)
def test_every_error_of_the_first_rank_reaches_the_others(raised, here, there):
    def work():
        raise raised

    sent = []
    ranks = Ranks(None)
    ranks.gather = lambda value: sent.append(value) or [value, None]
    with pytest.raises(here):
        comm.on_first(ranks, work)
    second = Ranks(rank=1)
    second.size, second.gather = 2, lambda value: [sent[0], None]
    with pytest.raises(type(there), match=str(there)):
        comm.on_first(second, work)


def test_a_result_that_cannot_be_sent_is_a_fault_of_all():
    ranks = Ranks(None)
    with pytest.raises(TrainingError, match="pickle"):
        comm.on_first(ranks, lambda: lambda: 1)
    assert comm.on_first(ranks, lambda: np.arange(3)).sum() == 3


@pytest.mark.parametrize("raised", [SystemExit(3), GeneratorExit(), StopIteration(), OSError(28, "No space")])
def test_every_error_becomes_a_fault_with_its_place(raised):
    with (
        pytest.raises(TrainingError, match=rf"^batch 3: {type(raised).__name__}:? .*\(test_watch.py:\d+\)$"),
        fault_at("batch 3"),
    ):
        raise raised

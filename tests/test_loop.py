import contextlib
import math
import os
import signal
import sys
import time
import types

import pytest
from rich.console import Console
from test_runs import CONFIG

from rlab.errors import BadInputError, TrainingError
from rlab.runs import loop, progress
from rlab.runs.checkpoints import Checkpoint
from rlab.runs.directory import Run
from rlab.runs.loop import Update, run_loop
from rlab.runs.metrics import MetricsWriter, read_metrics
from rlab.runs.progress import ProgressDisplay
from rlab.runs.signals import results_of_stops
from rlab.types import Episode


@pytest.fixture(autouse=True)
def _ctrl_c():
    """A shell lets what it starts with `&` ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Counting:
    """Updates of one step each, and what happens at some of them."""

    def __init__(self, count, happens=None):
        self.steps, self.count, self.happens, self.log = 0, count, happens or {}, []

    def updates(self):
        try:
            while self.steps < self.count:
                if self.steps in self.happens:
                    self.happens[self.steps]()
                self.steps += 1
                yield Update(self.steps, {"loss": 0.5}, [Episode(1.0, 1)])
        finally:
            self.log.append("stopped")

    def checkpoint(self):
        self.log.append(f"saved {self.steps}")
        return Checkpoint(self.steps, {}, {})

    def close(self):
        self.log.append("closed")


def _train(tmp_path, counting, **settings):
    run = Run.create(tmp_path / "run", CONFIG | settings)
    return run, run_loop(run, counting.updates(), counting.checkpoint, counting.count, close=counting.close)


def _interrupt():
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_saves_closes_and_is_raised(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    counting = Counting(9, {3: _interrupt})
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, counting)
    # The environments last: one that takes the process with it has lost nothing then.
    assert counting.log == ["stopped", "saved 4", "closed"]
    assert Run.open(tmp_path / "run").latest_checkpoint().steps == 4
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_a_command_gets_the_result_of_what_it_stopped(tmp_path):
    with results_of_stops():
        _, result = _train(tmp_path, Counting(9, {3: _interrupt}))
    assert (result.steps, result.stopped_by) == (4, signal.SIGINT)


def test_a_signal_when_all_steps_are_done_stops_nothing(tmp_path):
    counting = Counting(4)

    def updates():
        yield from counting.updates()
        _interrupt()

    run = Run.create(tmp_path / "run", CONFIG)
    with results_of_stops():
        result = run_loop(run, updates(), counting.checkpoint, 4)
    assert (result.steps, result.stopped_by) == (4, None)


def test_a_fault_after_a_signal_is_no_fault(tmp_path, capsys):
    """Ctrl-C reaches the processes of an environment too."""

    def fall():
        _interrupt()
        raise TrainingError("the simulator is gone")

    counting = Counting(9, {3: fall})
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, counting, checkpoint_every=0.0)
    assert Run.open(tmp_path / "run").latest_checkpoint().steps == 3
    assert "stopped without a new checkpoint, the last one stands: the simulator is gone" in capsys.readouterr().err
    assert counting.log[-1] == "closed"


@pytest.mark.parametrize("device", ["/dev/full", None])
def test_training_goes_on_where_nothing_can_be_said(tmp_path, monkeypatch, device):
    if device:
        stream = open(device, "w")  # noqa: SIM115
    else:
        read, write = os.pipe()
        os.close(read)
        stream = os.fdopen(write, "w")
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    run, result = _train(tmp_path, Counting(5))
    monkeypatch.undo()
    assert result.steps == run.latest_checkpoint().steps == 5
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    stream.close()


@pytest.mark.parametrize(("every", "saved"), [(0.0, [1, 2, 3, 4, 4]), (1e6, [4])])
def test_checkpoints_come_as_often_as_was_asked(tmp_path, every, saved):
    counting = Counting(4)
    _train(tmp_path, counting, checkpoint_every=every)
    assert [int(line.split()[1]) for line in counting.log if "saved" in line] == saved


@pytest.mark.parametrize("every", ["often", True, -1.0, math.nan, math.inf])
def test_damaged_seconds_are_named(tmp_path, every):
    with pytest.raises(BadInputError, match=f"damaged: 'checkpoint_every' is {every!r}"):
        _train(tmp_path, Counting(4), checkpoint_every=every)
    assert Run.open(tmp_path / "run").config["steps"] == CONFIG["steps"]


def test_rows_come_by_time_too(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "ROWS", 1)
    clock = [0.0]  # a machine may be slow
    monkeypatch.setattr(loop, "time", types.SimpleNamespace(perf_counter=lambda: clock[0]))
    wait = lambda: clock.append(clock.pop() + 11.0)  # noqa: E731
    run, _ = _train(tmp_path, Counting(6, {2: wait, 4: wait}))
    assert [row["steps"] for row in read_metrics(run.path)] == [3, 5, 6]


def test_tensorboard_has_the_curve_the_scores_and_the_pictures_in_one_file(tmp_path):
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    (tmp_path / "tensorboard").mkdir()
    picture = tf.io.encode_png(tf.zeros((4, 4, 3), tf.uint8)).numpy()
    with contextlib.closing(MetricsWriter(tmp_path, 0)) as writer:
        writer.write({"steps": 1, "score": 2.0}, [1.0, 3.0])
        writer.write_pictures({"samples": picture}, 1)
        writer.write({"steps": 2, "score": 2.0}, [1.0, 3.0])
    (file,) = (tmp_path / "tensorboard").iterdir()
    kinds = {}
    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            kinds.setdefault(value.tag, set()).add(value.metadata.plugin_data.plugin_name or "scalars")
    assert kinds == {"score": {"scalars"}, "score_distribution": {"histograms"}, "samples": {"images"}}


@pytest.mark.parametrize("score", [-1e39, 1e300, float("inf"), float("nan")])
def test_a_score_beyond_what_tensorboard_has_fails_nothing(tmp_path, score):
    (tmp_path / "tensorboard").mkdir()
    with contextlib.closing(MetricsWriter(tmp_path, 0)) as writer:
        writer.write({"steps": 1, "score": score}, [score, 1.0])
    assert (tmp_path / "metrics.csv").read_text().startswith("steps,score\n1,")


def test_a_live_line_has_what_its_console_has_room_for():
    display = ProgressDisplay(100, 0)
    values = {"score": 12.5, "entropy": 0.25} | {f"metric_{i}": float(i) for i in range(9)}
    lines = {}
    for width in (40, 80, 200):
        display.console = Console(width=width)
        lines[width] = display.fitting("1,000 steps", "", values)
        assert len(lines[width]) + progress._BESIDE <= width
    assert lines[40] == "1,000 steps"
    assert "score" in lines[80]
    assert "metric_0" not in lines[80]
    assert "metric_8" in lines[200]


def test_a_display_that_hears_nothing_says_what_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SILENT_SECONDS", 0.05)
    display = ProgressDisplay(100, 0)
    display.begin()

    class Simulator:
        def step(self):
            time.sleep(0.12)

    time.sleep(0.1)
    display.show(1, {})
    Simulator().step()
    display.close()
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "compiling ..."
    assert "still compiling ... 0 s" in said
    assert any(line.startswith("step of Simulator (test_loop.py:") for line in said)

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from conftest import ROOT

from rlab.parallel import calls
from rlab.runs import signals
from rlab.runs.signals import StopRequest, results_of_stops

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@pytest.fixture(autouse=True)
def _handlers():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts with `&` ignore it
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_ctrl_c_is_noted_and_acts_afterwards():
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.signal == signal.SIGINT
    assert [signal.getsignal(number) for number in SIGNALS[:3]] == before[:3]
    with pytest.raises(KeyboardInterrupt):
        stop.deliver()


def test_ctrl_c_at_the_very_end_still_acts():
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        stop.signal = None  # all was done
    with pytest.raises(KeyboardInterrupt):
        stop.deliver()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_handler_of_research_code_hears_of_it_afterwards(number):
    heard = []
    signal.signal(number, lambda *given: heard.append(given[0]))
    with StopRequest() as stop:
        signal.raise_signal(number)
        assert stop.signal == number
        assert not heard
    stop.deliver()
    assert heard == [number]


def test_a_program_of_one_training_gets_its_result():
    with results_of_stops():
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # the twin that launchers send
        stop.deliver()
    assert stop.signal == signal.SIGINT


def test_nohup_is_respected():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGHUP)
    assert stop.signal is None


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.default_int_handler])
def test_a_late_repetition_of_a_batch_job_does_not_kill(handler):
    """Whose own handler is another's matter."""
    signal.signal(signal.SIGUSR1, handler)
    with StopRequest():
        pass
    assert signal.getsignal(signal.SIGUSR1) is (signal.SIG_IGN if handler is signal.SIG_DFL else handler)


def test_a_stop_request_works_with_two_signals_alone(monkeypatch):
    monkeypatch.setattr(signals, "HEARD", (signal.SIGINT, signal.SIGTERM))  # as on Windows
    monkeypatch.setattr(signals, "REPEATABLE", None)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
    assert stop.signal == signal.SIGTERM


def test_a_forked_process_has_handlers_of_its_own():
    read, write = os.pipe()
    with StopRequest() as stop:
        child = os.fork()
        if not child:
            os.write(write, b"up")
            time.sleep(10.0)
            os._exit(0)
        os.read(read, 2)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
    assert stop.signal is None


HANG = """
import hashlib, signal, sys, time
from rlab.parallel import calls
from rlab.runs import signals

calls.STUCK = signals._FAREWELL = 0.6
signals.PATIENCE = 0.2

class Simulator:
    def step(self, action):
        print("in it", flush=True)
        {hang}

def train():
    with signals.StopRequest():
        Simulator().step(0)
{run}
"""
IN_PYTHON, IN_C = "time.sleep(60.0)", "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
FROM_COMMAND, FROM_SCRIPT = "with signals.results_of_stops(): train()", "train()"


@pytest.mark.parametrize(
    ("hang", "run", "number", "status"),
    [
        (IN_PYTHON, FROM_COMMAND, signal.SIGTERM, 143),
        (IN_PYTHON, FROM_COMMAND, signal.SIGINT, 130),
        (IN_C, FROM_COMMAND, signal.SIGTERM, 143),
        (IN_PYTHON, FROM_SCRIPT, signal.SIGTERM, -signal.SIGTERM),
        (IN_PYTHON, FROM_SCRIPT, signal.SIGINT, -signal.SIGINT),
        (IN_C, FROM_SCRIPT, signal.SIGTERM, 143),
    ],
)
def test_an_environment_that_hangs_does_not_outlive_a_signal(hang, run, number, status):
    code = textwrap.dedent(HANG).format(hang=hang, run=run)
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == status
    assert "no safe point yet: step of Simulator (<string>:" in said
    assert "stopped without a new checkpoint: step of Simulator" in said


def test_a_second_signal_ends_what_hangs_at_once():
    code = "from rlab.runs import signals\nsignals._TOGETHER = 0.1\n" + HANG.format(hang=IN_C, run=FROM_COMMAND)
    code = code.replace("calls.STUCK = signals._FAREWELL = 0.6", "signals._FAREWELL = 0.2")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=calls.STUCK - 3.0) == 143  # seconds after which a call counts as hanging
    finally:
        process.kill()
        process.communicate()


class Stuck:
    def __init__(self):
        self.over = threading.Event()

    def step(self):
        self.over.wait()


def test_a_thread_in_another_call_than_before_is_not_held():
    first, second = Stuck(), Stuck()
    thread = threading.Thread(target=lambda: (first.step(), second.step()), daemon=True)
    thread.start()
    held = calls.CallWatch(thread.ident)
    while not held.seconds():
        time.sleep(0.01)
    time.sleep(1.0)
    assert held.seconds() >= 1.0
    before = calls.environment_call(thread.ident)
    first.over.set()
    while calls.environment_call(thread.ident) in (None, before):
        time.sleep(0.01)
    assert held.seconds() < 1.0
    second.over.set()


def test_a_thread_that_its_environment_holds_is_left_behind(monkeypatch, capsys):
    monkeypatch.setattr(calls, "STUCK", 0.2)
    environment = Stuck()
    held = threading.Thread(target=environment.step, name="worker-3", daemon=True)
    free = threading.Thread(target=lambda: time.sleep(0.05))
    for thread in (held, free):
        thread.start()
    calls.join([held, free])
    assert not free.is_alive()
    assert held.is_alive()
    environment.over.set()
    assert "worker-3 is left behind: step of Stuck (test_signals.py:" in capsys.readouterr().err


def test_an_environment_that_does_not_close_keeps_no_other_open(capsys):
    closed = []

    class Environment:
        def __init__(self, error):
            self.error = error

        def close(self):
            closed.append(self)
            if self.error:
                raise self.error

    environments = [Environment(error) for error in (RuntimeError("no window"), SystemExit(3), None)]
    calls.close_all(environments)
    assert closed == environments
    assert "an environment did not close: RuntimeError: no window" in capsys.readouterr().err

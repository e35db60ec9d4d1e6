"""Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 as a request to stop at the next safe point."""

from __future__ import annotations

import _thread
import contextlib
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType

from rlab import launchers
from rlab.notify import notify
from rlab.parallel import calls

# Windows has neither the third nor the fourth.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
HEARD: tuple[int, ...] = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_HANGUP, REPEATABLE = getattr(signal, "SIGHUP", None), getattr(signal, "SIGUSR1", None)
_TOGETHER = 3.0  # seconds in which signals are one request: launchers send theirs to a process and to its group
PATIENCE = 5.0  # seconds without a safe point after which that is said
_FAREWELL = 5.0  # that the way out may take, once a safe point is no longer awaited


_noted: StopRequest | None = None  # the one that is entered
_commanded = False  # whether stopped trainings give their results


def stop_requested() -> bool:
    """Tell whether this process was asked to stop, for work that would keep a request waiting."""
    return _noted is not None and _noted.signal is not None


@contextlib.contextmanager
def results_of_stops() -> Iterator[None]:
    """Let a stopped training return its result, for a program that ends after one, such as `python -m launch`.

    Elsewhere, in research code, a signal acts as it would have without training, only after the checkpoint: Ctrl-C
    raises KeyboardInterrupt, so that a script of several trainings ends.
    """
    global _commanded
    before, _commanded = _commanded, True
    try:
        yield
    finally:
        _commanded = before


class StopRequest:
    """While entered, the first of these signals is only noted, in `signal`, and said; a later one acts as usual.

    On the way out the handlers are as before, and `deliver` lets a signal act that was noted. Only under
    `results_of_stops` they stay after a signal, for the twin that launchers send.

    A signal that finds no safe point is not in vain: where a call of an environment does not come back for ten
    seconds, or anything else for five minutes (`rlab.parallel.calls`), the process ends with what was saved before.
    SIGHUP is left alone where it is ignored, as under `nohup`.

    SIGUSR1 is a SIGTERM that may be repeated: mpirun ends its ranks at a SIGTERM, and passes this one on. A batch job
    repeats it until all ranks have heard it, so later ones do nothing, nor do those that come when the run has ended
    by itself (where they would have killed the process).

    In a thread other than the main one signals are left alone: Python delivers them to the main thread only.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.first_heard = 0.0
        self._received: int | None = None
        self._previous: dict[int, object] = {}
        self._outer: StopRequest | None = None
        self._guard: _Guard | None = None
        self.overdue = False  # no safe point is awaited any more

    def __enter__(self) -> StopRequest:
        global _noted
        self._outer, _noted = _noted, self
        if threading.current_thread() is threading.main_thread() and launchers.leads():
            self._previous = {number: signal.signal(number, self._note) for number in HEARD if _is_free(number)}
            self._guard = _Guard(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _noted
        _noted = self._outer
        if self._guard:
            self._guard.end()
        if not (_commanded and self._received):  # else its twin may still be on the way
            self.restore()

    @property
    def is_heard(self) -> bool:
        """True if signals come to this request."""
        return bool(self._previous)

    def heed(self, number: int) -> None:
        """Note the signal of another rank as if it had come here, where it may come later, or never."""
        if self.signal is None:
            self.first_heard = time.monotonic()
        self.signal = self._received = number

    def deliver(self) -> None:
        """Let the signal that was noted, if any, act as it would have without training."""
        if self._received and self._guard and not _commanded:
            signal.raise_signal(self._received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        repeatable = number == REPEATABLE
        if self.signal is None and self._received is None:
            self.heed(signal.SIGTERM if repeatable else number)
            more = b"" if repeatable else b"; once more to stop without"
            with contextlib.suppress(OSError):  # not by a stream: the signal may have come while one was written to
                os.write(2, b"\nstopping, and saving a checkpoint" + more + b"\n")
        elif self.overdue or (not repeatable and time.monotonic() - self.first_heard > _TOGETHER):
            self.restore()
            os.kill(os.getpid(), number)

    def restore(self) -> None:
        for number, handler in self._previous.items():
            fatal = number == REPEATABLE and handler is signal.SIG_DFL
            signal.signal(number, signal.SIG_IGN if fatal else handler)  # type: ignore[arg-type]
        self._previous = {}


def _is_free(number: int) -> bool:
    """Tell whether a signal may be heard: not SIGHUP under `nohup`, nor one whose handler is not Python's."""
    handler = signal.getsignal(number)
    return handler is not None and not (number == _HANGUP and handler is signal.SIG_IGN)


class _Guard:
    """A thread that learns of signals even while the main thread is held in a call, and ends the process for them."""

    def __init__(self, request: StopRequest) -> None:
        self._request, self._main = request, threading.main_thread().ident
        self._inbox, self._outbox = socket.socketpair()
        self._outbox.setblocking(False)
        self._previous = signal.set_wakeup_fd(self._outbox.fileno(), warn_on_full_buffer=False)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._thread.start()

    def end(self) -> None:
        signal.set_wakeup_fd(self._previous)
        self._over.set()
        with contextlib.suppress(OSError):
            self._outbox.send(b"\0")
        self._thread.join()
        self._inbox.close()
        self._outbox.close()

    def _listen(self) -> None:
        while not self._over.is_set():
            numbers = [number for number in self._inbox.recv(64) if number in HEARD]
            if numbers:
                # A batch job knows how long it can wait for a long update.
                by_job = numbers[0] == REPEATABLE
                number, limit = (signal.SIGTERM, math.inf) if by_job else (numbers[0], calls.LIMIT)
                return self._await_safe_point(number, limit)
        return None

    def _await_safe_point(self, number: int, limit: float) -> None:
        """Wait for the main thread to leave the request, and end the process where it does not."""
        start, held, told = time.monotonic(), calls.CallWatch(self._main), False
        while not self._over.wait(0.25):
            waited, stuck = time.monotonic() - start, held.seconds()
            if waited > PATIENCE and not told:
                told = True
                notify(f"no safe point yet: {held.describe() if stuck else 'an update'} goes on")
            if stuck > calls.STUCK or waited > limit:
                where = f"{held.describe()} has not come back for {stuck:.0f} s" if stuck else f"after {waited:.0f} s"
                notify(f"error: stopped without a new checkpoint: {where}; the last one stands")
                return self._break_off(number)
            if self._heard_again() and waited > _TOGETHER:  # the main thread ends the process, if it hears of it
                return self._leave(number, _FAREWELL)
        return None

    def _heard_again(self) -> bool:
        self._inbox.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            return any(number in HEARD and number != REPEATABLE for number in self._inbox.recv(64))
        return False

    def _break_off(self, number: int) -> None:
        if _commanded:
            return self._leave(number, 0.0)
        self._request.overdue = True  # research code may want to clean up
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(self._main or 0, number)
        else:  # on Windows, where it does not break off what the main thread waits for
            _thread.interrupt_main(signal.Signals(number))
        return self._leave(number, _FAREWELL)

    def _leave(self, number: int, seconds: float) -> None:
        """End the process, if the main thread does not in so many seconds. Ctrl-C alone never ends a session."""
        if self._over.wait(seconds) or (number == signal.SIGINT and not _commanded):
            return
        if sys.stderr and sys.stderr.isatty():
            notify("\x1b[?25h")  # the cursor, which the live line hides
        os._exit(128 + number)


def _forget_in_child() -> None:
    """Reset the signals of a process that an environment forks: it dies of SIGTERM, and leaves Ctrl-C to its parent."""
    if _noted and _noted.is_heard:
        signal.set_wakeup_fd(-1)
        for number in HEARD:
            signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)

"""Ctrl-C, SIGTERM and SIGUSR1 as a request to stop at the next safe point."""

import os
import signal
import threading
import time
from types import FrameType, TracebackType

_HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_TOGETHER = 3.0  # seconds in which signals are one request: launchers send theirs to a process and to its group


_noted: "StopRequest | None" = None  # the one that is entered


def stop_requested() -> bool:
    """Whether this process was asked to stop, for work that would keep a request waiting."""
    return _noted is not None and _noted.signal is not None


class StopRequest:
    """While entered, the first of these signals is only noted, in `signal`, and said; a later one acts as usual.

    After a signal the handlers stay, for the twin that launchers send and for a later one that acts as usual.

    SIGUSR1 is a SIGTERM that may be repeated: mpirun ends its ranks at a SIGTERM, and passes this one on. A batch job
    repeats it until all ranks have heard it, so later ones do nothing, nor do those that come when the run has ended
    by itself (where they would have killed the process).

    In a thread other than the main one signals are left alone: Python delivers them to the main thread only.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._first = 0.0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        global _noted
        _noted = self
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in _HEARD}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _noted
        _noted = None
        if self.signal is None:  # else its twin may still be on the way, and must not end what comes after
            self._restore()

    def heed(self, number: int) -> None:
        """Take the signal of another rank for one's own, which may come later, or never."""
        if self.signal is None:
            self._first = time.monotonic()
        self.signal = number

    def _note(self, number: int, frame: FrameType | None) -> None:
        repeatable = number == signal.SIGUSR1
        if self.signal is None:
            self.heed(signal.SIGTERM if repeatable else number)
            more = b"" if repeatable else b"; once more to stop without"
            os.write(2, b"\nstopping, and saving a checkpoint" + more + b"\n")
        elif not repeatable and time.monotonic() - self._first > _TOGETHER:
            self._restore()
            os.kill(os.getpid(), number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            fatal = number == signal.SIGUSR1 and handler is signal.SIG_DFL
            signal.signal(number, signal.SIG_IGN if fatal else handler)  # type: ignore[arg-type]
        self._previous = {}

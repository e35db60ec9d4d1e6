"""Ctrl-C and SIGTERM as a request to stop at the next safe point."""

import os
import signal
import threading
import time
from types import FrameType, TracebackType

_TOGETHER = 3.0  # seconds in which signals are one request: launchers send theirs to a process and to its group


_noted: "StopRequest | None" = None  # the one that is entered


def stop_requested() -> bool:
    """Whether this process was asked to stop, for work that would keep a request waiting."""
    return _noted is not None and _noted.signal is not None


class StopRequest:
    """While entered, the first SIGINT or SIGTERM is only noted, in `signal`, and said; a later one acts as usual.

    After a signal the handlers stay, for the twin that launchers send and for a later one that acts as usual.

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
            self._previous = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
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
        if self.signal is None:
            self.heed(number)
            os.write(2, b"\nstopping, and saving a checkpoint; once more to stop without\n")
        elif time.monotonic() - self._first > _TOGETHER:
            self._restore()
            os.kill(os.getpid(), number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous = {}

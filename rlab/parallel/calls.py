"""Calls of environments that threads are in, so that one which does not come back can be named."""

import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

from rlab.notify import notify

STUCK = 10.0  # seconds that a call of an environment may last when the work is to end
LIMIT = 300.0  # that anything else may, such as compiling
_CALLS = frozenset({"step", "reset", "step_wait", "reset_wait"})


def environment_call(thread: int | None) -> FrameType | None:
    """The outermost call of an environment that a thread is in, by its identity; None where it is in none.

    The same call is the same frame object, for as long as the caller keeps it.
    """
    found = _calls(thread)
    return found[-1] if found else None


def describe_call(thread: int | None) -> str:
    """The innermost call of an environment that a thread is in, such as `step of Simulator (simulator.py:31)`."""
    found = _calls(thread)
    if not found:
        return "no call of an environment"
    kind, code = type(found[0].f_locals.get("self")).__name__, found[0].f_code
    return f"{code.co_name} of {kind} ({Path(code.co_filename).name}:{found[0].f_lineno})"


def _calls(thread: int | None) -> list[FrameType]:
    """The calls of environments that a thread is in, from the innermost; a recurrent model's steps are none."""
    frame, found = sys._current_frames().get(thread or 0), []
    while frame:
        own = str(frame.f_globals.get("__name__")).startswith("rlab.models")
        if frame.f_code.co_name in _CALLS and "self" in frame.f_code.co_varnames and not own:
            found.append(frame)
        frame = frame.f_back
    return found


class CallWatch:
    """A watch on how long a thread has been in one and the same call of an environment, as often as it is asked."""

    def __init__(self, thread: int | None) -> None:
        self.thread = thread
        self._call: FrameType | None = None
        self._since = time.monotonic()

    def seconds(self) -> float:
        """Seconds since the call was first seen; 0 where the thread is in none, or in another than the last time."""
        call = environment_call(self.thread)
        if call is None or call is not self._call:
            self._call, self._since = call, time.monotonic()
        return time.monotonic() - self._since if call else 0.0

    def describe(self) -> str:
        return describe_call(self.thread)


class Patience:
    """A judge of whether threads that should end are held in environments that do not come back."""

    def __init__(self) -> None:
        self._watches: dict[threading.Thread, CallWatch] = {}

    def is_over(self, threads: Iterable[threading.Thread]) -> bool:
        """Tell whether each thread has been in one call for STUCK seconds, as far as asking has shown; ask often."""
        for thread in threads:
            self._watches.setdefault(thread, CallWatch(thread.ident))
        return all(self._watches[thread].seconds() > STUCK for thread in threads)


def join(threads: Iterable[threading.Thread]) -> None:
    """Wait for daemon threads to end; those that an environment holds, or that nothing ends, are named and left."""
    patience, start = Patience(), time.monotonic()
    while alive := [thread for thread in threads if thread.is_alive()]:
        if patience.is_over(alive) or time.monotonic() - start > LIMIT:
            for thread in alive:
                notify(f"{thread.name} is left behind: {describe_call(thread.ident)} does not come back")
            return
        alive[0].join(0.1)


def close_all(environments: Iterable[Any]) -> None:
    """Close each environment; an error is reported, and keeps none of the others open."""
    for environment in environments:
        try:
            environment.close()
        except (Exception, SystemExit) as error:
            notify(f"an environment did not close: {type(error).__name__}: {error}")

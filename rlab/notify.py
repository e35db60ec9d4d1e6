"""Lines for the person who started the work, on standard error. One that cannot be written is never a fault."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from rlab.errors import printable

WAIT_SECONDS = 20.0  # between two lines of a wait without news


class Unfailing:
    """A text stream whose writes never raise: a broken pipe, a full disk or a closed file only make it quiet.

    Signs that its encoding lacks are written as `?`. `failure` is the last OSError or ValueError, None while all could
    be written. In everything else it is the stream, which may be None, as of a process without standard error.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.failure: Exception | None = None

    def write(self, text: str) -> int:
        try:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                self._stream.write(text.encode(encoding, "replace").decode(encoding))
        except (OSError, ValueError, AttributeError) as error:
            self.failure = error
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            if self._stream is not None:
                self._stream.flush()
        except (OSError, ValueError, AttributeError) as error:
            self.failure = error

    def isatty(self) -> bool:
        try:
            return bool(self._stream.isatty())
        except (OSError, ValueError, AttributeError):
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def notify(text: str) -> None:
    """Write a line to standard error, or nothing where that cannot be done."""
    stream = Unfailing(sys.stderr)
    stream.write(printable(text) + "\n")  # in one piece, so that lines of several ranks or threads stay whole
    stream.flush()


@contextlib.contextmanager
def waiting(work: object, every: float | None = None) -> Iterator[None]:
    """While entered, a line says every so many seconds that the work goes on: `filming ... 40 s`.

    `work` is turned into text each time, and may tell how far it has come.
    """
    over, start = threading.Event(), time.monotonic()

    def tell() -> None:
        while not over.wait(WAIT_SECONDS if every is None else every):
            notify(f"{work} ... {time.monotonic() - start:.0f} s")

    thread = threading.Thread(target=tell, name="waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

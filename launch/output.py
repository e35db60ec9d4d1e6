"""Standard output and standard error of `python -m launch`: writes that fail, and output that must be JSON alone."""

import ctypes
import errno
import json
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

import click

from rlab.notify import Unfailing, notify

_kept: list[TextIO] = []  # the real standard output, while only JSON may be on it


def fill_descriptors() -> None:
    """Open `/dev/null` for each of 0, 1 and 2 that the process was started without.

    Else the next file to be opened would take the number, and what a library prints would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


def guard_streams() -> None:
    """Let no print fail, whoever prints; `output_status` tells of it at the end."""
    sys.stdout, sys.stderr = Unfailing(sys.stdout), Unfailing(sys.stderr)


def output_status(status: int) -> int:
    """The exit status of a command that had something to print: 1 in place of 0 where standard output did not take it.

    A reader that has gone, as `head`, is not worth a line. After this nothing is left to be written at exit.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    failure = getattr(sys.stdout, "failure", None)
    if failure is None:
        return status
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, 1)  # for what is in the buffers still
    os.close(descriptor)
    if status == 0 and getattr(failure, "errno", None) not in (errno.EPIPE, None):
        notify(f"error: standard output: {failure.strerror}")
    return status or 1


def forget_failures() -> None:
    """Forget the writes that failed so far: they were no result, but what an environment prints while it trains."""
    if isinstance(sys.stdout, Unfailing):
        sys.stdout.failure = None


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The flag `--json`, with which all but `show_json` print to standard error: environments, and libraries in C."""
    option = click.option(
        "--json",
        "as_json",
        is_flag=True,
        callback=_keep_for_json,
        expose_value=True,
        help="print one JSON object on standard output",
    )
    return option(command)


def show_json(data: Any) -> None:
    """Print JSON data on the real standard output."""
    click.echo(json.dumps(data, allow_nan=False), file=_kept[-1] if _kept else None)


def _keep_for_json(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    if value:
        context.call_on_close(_keep_output())
    return value


def _keep_output() -> Callable[[], None]:
    """Send standard output to standard error, but for `show_json`; returns the function that undoes it."""
    before = sys.stdout
    before.flush()
    try:
        whole_process = before.fileno() == 1
    except (OSError, ValueError, AttributeError):  # a stream of Python's, as in a notebook or a test
        whole_process = False
    if not whole_process:
        _kept.append(before)
        sys.stdout = sys.stderr
        return lambda: _give_back(before)
    real = os.dup(1)
    os.dup2(2, 1)
    kept = Unfailing(os.fdopen(real, "w", encoding="utf-8"))
    _kept.append(kept)  # type: ignore[arg-type]

    def undo() -> None:
        before.flush()
        if sys.platform != "win32":
            ctypes.CDLL(None).fflush(None)  # what C has printed, and not yet written
        kept.flush()
        if kept.failure and isinstance(before, Unfailing):
            before.failure = kept.failure
        os.dup2(real, 1)
        _give_back(before)

    return undo


def _give_back(before: Any) -> None:
    sys.stdout = before
    _kept.pop()

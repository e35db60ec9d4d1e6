"""The ways in which work can fail, kept apart because their exit statuses differ."""

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType


class BadInputError(ValueError):
    """What the user asked for cannot be done; the message is one line that names what would be right (status 2)."""


class TrainingError(RuntimeError):
    """A fault while running, such as a NaN or an environment that raised; the message names the place (status 1)."""


class ElsewhereError(TrainingError):
    """A fault of another rank, which says so itself; the message begins with `rank N: `."""


def described(error: BaseException) -> str:
    """What was raised, in a line, and the line of code that did: `SystemExit: 3 (pendulum.py:12)`.

    A TrainingError says it all itself.
    """
    text, trace = " ".join(str(error).split()), traceback.extract_tb(error.__traceback__)
    if isinstance(error, TrainingError):
        return text
    where = f" ({Path(trace[-1].filename).name}:{trace[-1].lineno})" if trace else ""
    return f"{type(error).__name__}: {text}".rstrip(": ") + where


class fault_at:  # noqa: N801
    """While entered, whatever is raised becomes a TrainingError that begins with a place: SystemExit too.

    Bad input, another rank's fault and Ctrl-C stay what they are. (Made by contextlib it would let StopIteration out.)
    """

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, BadInputError | ElsewhereError | KeyboardInterrupt):
            raise TrainingError(f"{self._place}: {described(error)}") from error


def nearest(name: str, choices: Iterable[str], count: int = 3) -> str:
    """A clause that suggests the choices nearest to a misspelt name, such as `; did you mean 'Pong'?`.

    Case is ignored. When nothing is near, and the choices are few, all of them are given.
    """
    by_lower = {choice.lower(): choice for choice in choices}
    lower = name.lower()
    # What contains the whole word is nearer than what shares letters with it.
    found = [choice for key, choice in sorted(by_lower.items()) if lower and (lower in key or key in lower)][:count]
    found += [by_lower[key] for key in difflib.get_close_matches(lower, by_lower, count, 0.6)]
    found = list(dict.fromkeys(found))[:count]
    if found:
        return "; did you mean " + " or ".join(repr(choice) for choice in found) + "?"
    if 0 < len(by_lower) <= 12:
        return "; there are " + ", ".join(sorted(by_lower.values()))
    return ""

"""The ways in which work can fail, kept apart because their exit statuses differ."""

import difflib
import re
import shlex
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

_NEAR = 0.65  # of 1, a likeness that is worth a suggestion

_QUOTED = 2000  # characters of a message


def printable(text: str) -> str:
    """The text as a terminal can show it: control characters, and others that would not be seen, are escaped."""
    shown = "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= _QUOTED else f"{shown[:_QUOTED]} ..."


def _in_a_line(part: object) -> object:
    """A part of a message, printable and without line breaks."""
    return printable(re.sub(r"\s*[\n\t]\s*", " ", part)) if isinstance(part, str) else part


class BadInputError(ValueError):
    """An error for a request that cannot be met; its message is one line that names what would be right (status 2).

    What it quotes may come from a file of anyone's, so it is escaped where a terminal would act on it.
    """

    def __init__(self, *parts: object) -> None:
        super().__init__(*map(_in_a_line, parts))


class TrainingError(RuntimeError):
    """A fault while running, such as a NaN or an environment that raised; the message names the place (status 1)."""

    def __init__(self, *parts: object) -> None:
        super().__init__(*map(_in_a_line, parts))


class ElsewhereError(TrainingError):
    """A fault of another rank, which reports it itself; the message begins with `rank N: `."""


class RankLostError(TrainingError):
    """A process of this command was killed; the message names it."""


def located(error: BaseException, place: str) -> TrainingError:
    """A fault with the place where it happened before its message; one of another rank says its own place."""
    if isinstance(error, ElsewhereError):
        return error
    fault = TrainingError(f"{place}: {described(error)}")
    fault.__cause__ = error
    return fault


def described(error: BaseException) -> str:
    """An error in one line, with the line of code that raised it: `SystemExit: 3 (pendulum.py:12)`.

    Of a TrainingError it is the message alone.
    """
    if isinstance(error, TrainingError):
        return " ".join(str(error).split())
    trace = traceback.extract_tb(error.__traceback__)
    return worded(error) + (f" ({Path(trace[-1].filename).name}:{trace[-1].lineno})" if trace else "")


def worded(error: BaseException) -> str:
    """The type and the message of an error in one line: `SystemExit: 3`."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")


def name_of(env: Any) -> str:
    """The name of an environment in messages."""
    while env is not None:
        if isinstance(name := getattr(env, "name", None), str):
            return name
        env = getattr(env, "env", None)
    return "of the factory"


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
            raise located(error, self._place)


def called(
    call: Callable[[], T],
    fault: Callable[[BaseException], Exception],
    ours: tuple[type[Exception], ...] = (BadInputError, TrainingError),
) -> T:
    """Return what code of others gives; whatever it raises, SystemExit too, becomes what `fault` makes of it.

    Errors of `ours` and Ctrl-C stay what they are. It is asked at every step of every copy: a context would cost more.
    """
    try:
        return call()
    except ours:
        raise
    except (Exception, SystemExit) as error:
        raise fault(error) from error


def cannot_be_made(name: str, error: BaseException) -> BadInputError:
    """The error that names an environment whose constructor raised something."""
    said = str(error) if isinstance(error, BadInputError) else worded(error)
    return BadInputError(f"environment {name!r} cannot be made: {said}")


def launch_command(*words: object) -> str:
    """A command of this project as it may be typed, such as `python -m launch resume 'my run'`.

    A word that begins with a hyphen is taken for the path of a file, and flags are no words.
    """
    plain = (f"./{word}" if str(word).startswith("-") else str(word) for word in words)
    return " ".join(["python -m launch", *map(shlex.quote, plain)])


def nearest(name: str, choices: Iterable[str], count: int = 3) -> str:
    """A clause that suggests the choices nearest to a misspelt name, such as `; did you mean 'Pong'?`.

    Case, hyphens, namespaces and versions are ignored. When nothing is near, and the choices are few, all are given.
    """
    known = sorted(set(choices), key=lambda choice: (len(choice), choice))
    likeness = {choice: _likeness(_bare(name), _bare(choice)) for choice in known}
    found = [choice for choice in sorted(known, key=lambda choice: -likeness[choice]) if likeness[choice] >= _NEAR]
    if found:
        return "; did you mean " + " or ".join(repr(choice) for choice in found[:count]) + "?"
    return "; there are " + ", ".join(sorted(known)) if 0 < len(known) <= 12 else ""


def _bare(name: str) -> str:
    """A name without what is often mistaken: `ALE/Pong-v5` and `pong` are alike."""
    return re.sub(r"-v\d+$", "", re.sub(r"[-_ ]+", "-", name.lower().rpartition("/")[2])).strip("-")


def _likeness(word: str, choice: str) -> float:
    """The likeness of a word to a choice, from 0 to 1; a short name that is merely found in another word has none."""
    if (len(word) >= 3 and word in choice) or (len(word) == 2 and choice.startswith(word)):
        return 0.9 if word != choice else 1.0
    if len(choice) >= 4 and word.startswith(choice):
        return 0.85
    ratio = difflib.SequenceMatcher(None, word, choice).ratio()
    return ratio if word[:1] == choice[:1] or (ratio >= 0.8 and len(choice) > 3) else 0.0

"""The progress of a run, for a person: a live line on a terminal, plain lines elsewhere. On standard error."""

import math
import sys
import threading
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from rlab.notify import Unfailing, notify
from rlab.parallel.calls import describe_call, environment_call

PLAIN_SECONDS = 10.0
SILENT_SECONDS = 20.0  # without news, after which a line says what goes on
_LIVE_SECONDS = 0.1  # between two changes of a live line
_BAR, _BESIDE = 20, 18  # columns of the bar, and of percentage and time left with their gaps


class ProgressDisplay:
    """Shows steps, speed, time left and metrics of a training run. `total` and `done` are in units of `unit`.

    A live line is as wide as its console: metrics that do not fit are left out, and where there is room more are shown.
    Elsewhere lines come every ten seconds, and one every twenty while nothing new comes.
    """

    def __init__(self, total: int, done: int, unit: str = "steps") -> None:
        self.console = Console(file=Unfailing(sys.stderr))  # type: ignore[arg-type]
        self._live: Progress | None = None
        self._total, self._unit, self._printed, self._shown = total, unit, 0.0, done
        self._first: tuple[int, float] | None = None  # steps and time of the first show: compilation lies before it
        self._news, self._over = time.perf_counter(), threading.Event()
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            bar = [BarColumn(_BAR)] if self.console.width >= 60 else []
            self._live = Progress(
                *bar,
                TextColumn("{task.percentage:>3.0f}%"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}", markup=False),
                console=self.console,
            )
            self._task = self._live.add_task("training", total=total, completed=done, text="compiling...")
            self._live.start()

    def begin(self) -> None:
        """Say that the work begins, and from then on, while nothing new comes, that it goes on."""
        if not self._live:
            notify("compiling ...")
            self._news = time.perf_counter()
            threading.Thread(target=self._tell_of_silence, name="display", daemon=True).start()

    def show(
        self,
        steps: int,
        values: dict[str, float],
        last: bool = False,
        end: int | None = None,
        more: dict[str, float] | None = None,
    ) -> None:
        """Show the `values` that are numbers by name, in their order; `end` is where the run ends, if before its total.

        On a live line `more` of them follow, as far as there is room. Plain lines come every ten seconds, and the last
        one always.
        """
        now = self._news = time.perf_counter()
        self._first = self._first or (steps, now)
        plain = (last and steps > self._shown) or now - self._printed >= PLAIN_SECONDS
        if not (plain or self._live) or (self._live and not last and now - self._printed < _LIVE_SECONDS):
            return
        self._printed, self._shown, total = now, steps, end or self._total
        head, remaining = self._speed(steps, total, now)
        tail = f"  target reached, cooling down until {total:,}" if total < self._total else ""
        if self._live:
            text = self.fitting(head, tail, values | (more or {}))
            self._live.update(self._task, total=total, completed=min(steps, total), text=text)
        else:
            notify(head + "".join(_parts(values)) + tail + remaining)

    def _speed(self, steps: int, total: int, now: float) -> tuple[str, str]:
        """Steps and their speed, and the time left, if there is one."""
        assert self._first
        text, remaining = f"{steps:,} {self._unit}", ""
        if steps > self._first[0]:
            rate = (steps - self._first[0]) / max(now - self._first[1], 1e-9)
            text += f"  {rate:,.0f} {self._unit}/s"
            remaining = f"  {_duration(max(total - steps, 0) / rate)} left"
        return text, remaining

    def fitting(self, head: str, tail: str, values: dict[str, float]) -> str:
        """The line with as many of the metrics as the console has columns for."""
        width = self.console.width
        room = width - _BESIDE - (_BAR + 1 if width >= 60 else 0) - len(head) - len(tail)
        fitting = ""
        for part in _parts(values):
            if len(fitting) + len(part) <= room:
                fitting += part
        return head + fitting + tail

    def _tell_of_silence(self) -> None:
        told = 0.0
        while not self._over.wait(min(1.0, SILENT_SECONDS / 4)):
            silent = time.perf_counter() - self._news
            if silent < SILENT_SECONDS:
                told = 0.0
            elif silent - told >= SILENT_SECONDS:
                told = silent
                notify(f"{self._work()} ... {silent:.0f} s")

    def _work(self) -> str:
        """The work that goes on while there is no news: the call of an environment that holds it up, if one does."""
        workers = [thread for thread in threading.enumerate() if thread.name.startswith("worker-")]
        for thread in [threading.main_thread(), *workers]:
            if environment_call(thread.ident):
                return f"{describe_call(thread.ident)} of {thread.name}" if workers else describe_call(thread.ident)
        return "an update goes on" if self._first else "still compiling"

    def close(self) -> None:
        self._over.set()
        if self._live:
            self._live.stop()


def _parts(values: dict[str, float]) -> list[str]:
    return [f"  {name} {value:.4g}" for name, value in values.items() if not math.isnan(value)]


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"

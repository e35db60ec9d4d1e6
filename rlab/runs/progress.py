"""What a person sees while a run goes on: a live line on a terminal, plain lines elsewhere. On standard error."""

import math
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_PLAIN_SECONDS = 10.0


def say(text: str) -> None:
    """A line for the person who started the run."""
    print(text, file=sys.stderr, flush=True)


class ProgressDisplay:
    """Shows steps, speed, time left and a few metrics of a training run. `total` and `done` are in units of `unit`."""

    def __init__(self, total: int, done: int, unit: str = "steps") -> None:
        self._console = Console(file=sys.stderr)
        self._live: Progress | None = None
        self._total, self._unit, self._printed, self._shown = total, unit, 0.0, done
        self._first: tuple[int, float] | None = None  # steps and time of the first show: compilation lies before it
        if self._console.is_terminal:
            self._live = Progress(
                BarColumn(20),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
                console=self._console,
            )
            self._task = self._live.add_task("training", total=total, completed=done, text="compiling...")
            self._live.start()

    def show(self, steps: int, values: dict[str, float], last: bool = False, end: int | None = None) -> None:
        """`values` that are numbers are shown by name in their order; `end` is where the run ends, if before its total.

        Plain lines come every ten seconds, and the last one always.
        """
        now = time.perf_counter()
        total = end or self._total
        text = f"{steps:,} {self._unit}"
        remaining = ""
        if self._first and steps > self._first[0]:
            rate = (steps - self._first[0]) / max(now - self._first[1], 1e-9)
            text += f"  {rate:,.0f} {self._unit}/s"
            remaining = f"  {_duration(max(total - steps, 0) / rate)} left"
        self._first = self._first or (steps, now)
        text += "".join(f"  {name} {value:.4g}" for name, value in values.items() if not math.isnan(value))
        if total < self._total:
            text += f"  target reached, cooling down until {total:,}"
        if self._live:
            self._live.update(self._task, total=total, completed=min(steps, total), text=text)
        elif (last and steps > self._shown) or now - self._printed >= _PLAIN_SECONDS:
            print(text + remaining, file=sys.stderr, flush=True)
            self._printed, self._shown = now, steps

    def close(self) -> None:
        if self._live:
            self._live.stop()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"

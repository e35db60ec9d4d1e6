"""What a person sees while a run goes on: a live line on a terminal, plain lines elsewhere. On standard error."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_PLAIN_SECONDS = 10.0


class ProgressDisplay:
    """Shows steps, speed, time left and a few metrics of a training run. `total` and `done` are agent steps."""

    def __init__(self, total: int, done: int) -> None:
        self._console = Console(file=sys.stderr)
        self._live: Progress | None = None
        self._total, self._first, self._start, self._printed = total, done, time.perf_counter(), 0.0
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

    def show(self, steps: int, values: dict[str, float], last: bool = False) -> None:
        """`values` are shown by name in their order; plain lines come every ten seconds, and the last one always."""
        now = time.perf_counter()
        rate = (steps - self._first) / max(now - self._start, 1e-9)
        text = f"{steps:,} steps  {rate:,.0f} steps/s"
        text += "".join(f"  {name} {value:.4g}" for name, value in values.items())
        if self._live:
            self._live.update(self._task, completed=min(steps, self._total), text=text)
        elif last or now - self._printed >= _PLAIN_SECONDS:
            left = (self._total - steps) / max(rate, 1e-9)
            print(f"{text}  {_duration(max(left, 0.0))} left", file=sys.stderr, flush=True)
            self._printed = now

    def close(self) -> None:
        if self._live:
            self._live.stop()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"

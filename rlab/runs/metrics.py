"""Metrics on disk: `metrics.csv` for every reader, TensorBoard for the eye."""

import csv
import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rlab.errors import BadInputError
from rlab.files import open_to_append, read_file, require_plain, set_aside, write_atomically
from rlab.notify import notify

_FLUSH_MILLISECONDS = 5_000  # after which TensorBoard sees what was written; TensorFlow's own are two minutes
_LARGEST = 1 << 30  # bytes of metrics.csv; a row of thirty columns has 300
_FIRST = "steps"  # the first column


class MetricsWriter:
    """Appends rows of numbers to a run's `metrics.csv` and TensorBoard files.

    When a run is resumed, the rows of `metrics.csv` beyond the checkpoint, and a last line that a kill cut short, are
    dropped first. A file that is damaged is kept beside under another name, with a note, and its good rows stay.
    """

    def __init__(self, run: Path, resumed_at: int) -> None:
        require_plain(run)
        self._path = run / "metrics.csv"
        self._columns, rows = _keep_rows(self._path, resumed_at)
        # The last number of each column, of a run that is resumed.
        self.last = {name: value for row in rows for name, value in row.items() if math.isfinite(value)}
        self._file = open_to_append(self._path)
        self._board = _board(run / "tensorboard")

    def write(self, row: dict[str, float], scores: list[float]) -> None:
        """One row, whose first column is `steps`, and the scores of the episodes since the last row."""
        if new := [name for name in row if name not in self._columns]:
            self._widen(new)
        csv.DictWriter(self._file, self._columns, "", lineterminator="\n").writerow(
            {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
        )
        self._file.flush()
        with self._board.as_default(int(row["steps"])):
            for key, value in row.items():
                if key != "steps":  # float64, since TensorFlow raises for Python's numbers beyond float32
                    tf.summary.scalar(key, np.float64(value))
            if scores:
                # A tag holds one kind of data only.
                tf.summary.histogram("score_distribution", np.asarray(scores, np.float64))

    def write_pictures(self, pictures: dict[str, bytes], steps: int) -> None:
        """PNG files by name, as images of TensorBoard."""
        with self._board.as_default(steps):
            for name, content in pictures.items():
                tf.summary.image(name, tf.image.decode_png(content, channels=3)[None])

    def _widen(self, new: list[str]) -> None:
        """Begin columns that come only now; the rows so far have empty cells there."""
        self._file.close()
        written = list(csv.reader(io.StringIO(read_file(self._path, _LARGEST).decode())))[1:]
        self._columns = self._columns + new
        padded = [row + [""] * (len(self._columns) - len(row)) for row in written]
        write_atomically(self._path, _as_csv([self._columns, *padded]))
        self._file = open_to_append(self._path)

    def write_graph(self, graph: tf.Graph) -> None:
        with self._board.as_default(0):
            tf.summary.graph(graph)

    def close(self) -> None:
        self._file.close()
        self._board.close()


def _board(path: Path) -> Any:
    """TensorBoard's writer; what stands in the place of its directory is set aside, and where there is none, no-one."""
    if os.path.lexists(path) and not path.is_dir():
        notify(f"note: {path} is no directory; it is kept as {set_aside(path).name}")
    try:
        # One writer to a run: a reader that watches goes on to the newest file, and never comes back to an older one.
        return tf.summary.create_file_writer(str(path), flush_millis=_FLUSH_MILLISECONDS)
    except (tf.errors.OpError, OSError) as error:
        notify(f"note: nothing is written for TensorBoard: {getattr(error, 'message', error)}")
        return tf.summary.create_noop_writer()


def read_metrics(run: str | Path) -> list[dict[str, float]]:
    """The rows of a run's `metrics.csv`; an empty cell becomes NaN, and a last line that was cut short is left out.

    Raises BadInputError, naming the line, where the file is damaged.
    """
    path = Path(run) / "metrics.csv"
    require_plain(run)
    try:
        columns, rows, wrong = _read(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInputError(f"{path} is missing") from error
    if wrong:
        raise BadInputError(f"{path} is damaged: line {wrong[0]} is no row of {len(columns)} numbers")
    return [_numbers(columns, row) for row in rows]


def _read(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """The columns, the good rows, and the numbers of the lines that are none, from 1 on."""
    *lines, _ = read_file(path, _LARGEST).split(b"\n")  # of the last nothing is left, unless it was cut short
    if not lines:
        return [], [], []
    columns = _cells(lines[0]) or []
    if columns[:1] != [_FIRST] or len(set(columns)) < len(columns) or not all(map(str.isprintable, columns)):
        return [], [], list(range(1, len(lines) + 1))
    rows, wrong = [], []
    for number, line in enumerate(lines[1:], 2):
        cells = _cells(line)
        if cells and len(cells) == len(columns) and cells[0].isdecimal() and all(map(_is_number, cells)):
            rows.append(cells)
        else:
            wrong.append(number)
    return columns, rows, wrong


def _cells(line: bytes) -> list[str] | None:
    try:
        return next(csv.reader([line.decode("ascii" if b"\x00" in line else "utf-8")], strict=True), None)
    except (csv.Error, ValueError):
        return None


def _is_number(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return len(cell) < 40


def _numbers(columns: list[str], row: list[str]) -> dict[str, float]:
    return {name: float(cell) if cell else math.nan for name, cell in zip(columns, row, strict=True)}


def _keep_rows(path: Path, steps: int) -> tuple[list[str], list[dict[str, float]]]:
    """Drop the rows after `steps` and any incomplete one; returns the columns and rows, none of a new file."""
    try:
        columns, rows, wrong = _read(path)
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    except BadInputError as error:  # a directory stands there, or it is of gigabytes
        notify(f"note: {error}; it is kept as {set_aside(path).name}")
        return [], []
    if wrong:
        aside, found = set_aside(path), f"{len(wrong)} damaged lines, the first is line {wrong[0]}"
        notify(f"note: {path} has {found}; it is kept as {aside.name}, and its {len(rows)} good rows stay")
    kept = [row for row in rows if int(row[0]) <= steps]
    write_atomically(path, _as_csv([columns, *kept]) if columns else b"")
    return columns, [_numbers(columns, row) for row in kept]


def _as_csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()

"""Metrics on disk: `metrics.csv` for every reader, TensorBoard for the eye."""

import csv
from pathlib import Path

import tensorflow as tf

from rlab.runs.files import write_atomically

_FLUSH_MILLISECONDS = 5_000  # after which TensorBoard sees what was written; TensorFlow's own are two minutes


class MetricsWriter:
    """Appends rows of numbers to a run's `metrics.csv` and TensorBoard files.

    When a run is resumed, the rows of `metrics.csv` beyond the checkpoint, and a last line that a kill cut short, are
    dropped first.
    """

    def __init__(self, run: Path, resumed_at: int) -> None:
        self._path = run / "metrics.csv"
        self._columns = _keep_rows(self._path, resumed_at)
        rows = read_metrics(run) if self._columns else []
        self.last: dict[str, float] = rows[-1] if rows else {}  # row, of a run that is resumed
        self._file = self._path.open("a", newline="")
        # One writer to a run: a reader that watches goes on to the newest file, and never comes back to an older one.
        self._board = tf.summary.create_file_writer(str(run / "tensorboard"), flush_millis=_FLUSH_MILLISECONDS)

    def write(self, row: dict[str, float], scores: list[float]) -> None:
        """One row, whose first column is `steps`, and the scores of the episodes since the last row."""
        if not self._columns:
            self._columns = list(row)
            csv.writer(self._file, lineterminator="\n").writerow(self._columns)
        csv.DictWriter(self._file, self._columns, "", "ignore", lineterminator="\n").writerow(
            {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
        )
        self._file.flush()
        with self._board.as_default(int(row["steps"])):
            for key, value in row.items():
                if key != "steps":
                    tf.summary.scalar(key, value)
            if scores:
                tf.summary.histogram("score_distribution", scores)  # a tag holds one kind of data only

    def write_pictures(self, pictures: dict[str, bytes], steps: int) -> None:
        """PNG files by name, as images of TensorBoard."""
        with self._board.as_default(steps):
            for name, content in pictures.items():
                tf.summary.image(name, tf.image.decode_png(content, channels=3)[None])

    def write_graph(self, graph: tf.Graph) -> None:
        with self._board.as_default(0):
            tf.summary.graph(graph)

    def close(self) -> None:
        self._file.close()
        self._board.close()


def read_metrics(run: Path) -> list[dict[str, float]]:
    """The rows of a run's `metrics.csv`; an empty cell becomes NaN."""
    with (Path(run) / "metrics.csv").open(newline="") as file:
        return [{key: float(value or "nan") for key, value in row.items()} for row in csv.DictReader(file)]


def _is_count(line: str) -> bool:
    return line.split(",")[0].isdigit()


def _keep_rows(path: Path, steps: int) -> list[str]:
    """Drop the rows after `steps` and any incomplete one; returns the columns, [] for a new file."""
    if not path.exists():
        return []
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    kept = lines[:1] + [line for line in lines[1:] if _is_count(line) and int(line.split(",")[0]) <= steps]
    write_atomically(path, "".join(kept).encode())
    return next(csv.reader(kept), [])

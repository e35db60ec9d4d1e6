"""Figures that tasks draw, as PNG files in the run and as images in TensorBoard."""

import io
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlab.runs.files import write_atomically


def save_pictures(run: Path, pictures: dict[str, Figure], step: int) -> None:
    """Write each figure to `pictures/NAME.png` and to the run's TensorBoard files."""
    directory = run / "pictures"
    directory.mkdir(exist_ok=True)
    board = tf.summary.create_file_writer(str(run / "tensorboard"))
    with board.as_default(step):
        for name, figure in pictures.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=110)
            write_atomically(directory / f"{name}.png", buffer.getvalue())
            tf.summary.image(name, tf.image.decode_png(buffer.getvalue(), channels=3)[None])
    board.close()


def band(x: np.ndarray, mean: np.ndarray, deviation: np.ndarray, data: tuple, labels: tuple[str, str]) -> Figure:
    """A line with two deviations to either side, over the points `data` (x, y); x rising."""
    figure, axes = _figure(*labels)
    axes.plot(*data, ".", color="0.6", markersize=3)
    axes.fill_between(x, mean - 2 * deviation, mean + 2 * deviation, alpha=0.3, linewidth=0)
    axes.plot(x, mean)
    return figure


def confusion(labels: np.ndarray, predictions: np.ndarray, classes: int) -> Figure:
    """How often each class was taken for each, mistakes shaded."""
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, predictions), 1)
    figure, axes = _figure("prediction", "label", size=(5.0, 4.6))
    axes.imshow(np.where(np.eye(classes, dtype=bool), 0, counts), cmap="Reds")
    if classes <= 20:
        for i, j in np.ndindex(classes, classes):
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=7)
    return figure


def filters(kernel: np.ndarray) -> Figure:
    """The kernels [k, k, 1, F] of a first convolution, or the weights [H, W, F] of a first layer as images."""
    images = kernel.reshape(*kernel.shape[:2], -1)[..., :64]
    columns = min(8, images.shape[2])
    figure = Figure(figsize=(5.0, 5.0 * -(-images.shape[2] // columns) / columns), layout="constrained")
    for i in range(images.shape[2]):
        axes = figure.add_subplot(-(-images.shape[2] // columns), columns, i + 1)
        axes.imshow(images[..., i], cmap="gray")
        axes.set_axis_off()
    return figure


def heat_maps(rows: dict[str, np.ndarray]) -> Figure:
    """Matrices [N, T] under one another over one time axis, such as a DNC's weightings."""
    figure = Figure(figsize=(6.4, 1.3 * len(rows) + 0.5), layout="constrained")
    for i, (name, matrix) in enumerate(rows.items()):
        axes = figure.add_subplot(len(rows), 1, i + 1)
        axes.imshow(matrix, aspect="auto", interpolation="nearest", vmin=0.0, vmax=1.0)
        axes.set_ylabel(name, fontsize=7)
        axes.tick_params(labelsize=6)
    axes.set_xlabel("step")
    return figure


def _figure(x: str, y: str, size: tuple[float, float] = (5.6, 3.6)) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y)
    return figure, axes

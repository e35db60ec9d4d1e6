"""Figures that tasks draw, as PNG files in the run and as images in TensorBoard."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlab.files import make_directory, write_atomically


def save_pictures(run: Path, pictures: dict[str, Figure], step: int, numbered: bool = False) -> dict[str, bytes]:
    """Write each figure to `pictures/NAME.png`, or NAME-STEP.png; returns the files' contents by name.

    While the run's loop is on, its writer shows them in TensorBoard too (`Update.pictures`).
    """
    directory = run / "pictures"
    make_directory(directory)
    contents = {}
    for name, figure in pictures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        contents[name] = buffer.getvalue()
        file = f"{name}-{step:07}.png" if numbered else f"{name}.png"
        write_atomically(directory / file, contents[name])
    return contents


def show_pictures(run: Path, contents: dict[str, bytes], step: int) -> None:
    """Write PNG files by name to TensorBoard files of a run whose loop has ended."""
    board = tf.summary.create_file_writer(str(run / "tensorboard"))
    with board.as_default(step):
        for name, content in contents.items():
            tf.summary.image(name, tf.image.decode_png(content, channels=3)[None])
    board.close()


class Fit(NamedTuple):
    """The predictions of a regression at N places in rising order."""

    x: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray


def fit(line: Fit, at_data: Fit, y: np.ndarray, labels: tuple[str, str]) -> Figure:
    """The line over the data y, with a band of two deviations; below, the same less the line, where the band shows."""
    figure = Figure(figsize=(5.6, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for axes, middle, points in ((above, line.mean, y), (below, np.zeros_like(line.mean), y - at_data.mean)):
        band = (middle - 2 * line.deviation, middle + 2 * line.deviation)
        axes.plot(at_data.x, points, ".", color="0.6", markersize=3, label="test data")
        axes.fill_between(line.x, *band, alpha=0.3, linewidth=0, label="± 2 deviations")
        axes.plot(line.x, middle, label="predictive mean (Bayes)")
    above.legend(frameon=False, fontsize=7)
    above.set_ylabel(labels[1])
    below.set(xlabel=labels[0], ylabel="less the mean")
    return figure


def confusion(labels: np.ndarray, predictions: np.ndarray, classes: int) -> Figure:
    """The confusion matrix: how often each class was taken for each, mistakes shaded."""
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, predictions), 1)
    figure, axes = _figure("prediction", "label", size=(5.0, 4.6))
    mistakes = np.where(np.eye(classes, dtype=bool), 0, counts)
    axes.imshow(mistakes, cmap="Reds")
    if classes <= 20:
        axes.set(xticks=range(classes), yticks=range(classes))
        for i, j in np.ndindex(classes, classes):
            colour = "white" if mistakes[i, j] > 0.6 * mistakes.max() else "black"
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=7, color=colour)
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
        if len(matrix) == 1:
            axes.set_yticks([])
    axes.set_xlabel("step")
    return figure


def _figure(x: str, y: str, size: tuple[float, float] = (5.6, 3.6)) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y)
    return figure, axes

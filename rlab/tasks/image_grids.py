"""Grids of images, and maps of their places in a latent space."""

import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave

from rlab.files import write_atomically


def tiled(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Images [N, H, W] side by side in one [H', W'], a grey line between them; as many rows as columns unless told."""
    count, height, width = images.shape
    columns = min(columns or int(np.ceil(np.sqrt(count))), count)
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1), 0.5, np.float32)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + 1) + 1, (i % columns) * (width + 1) + 1
        sheet[top : top + height, left : left + width] = image
    return sheet


def save(images: np.ndarray, out: Path, scale: int = 3) -> None:
    """Write the images [N, H, W] to a .png file of their pixels, each `scale` pixels wide."""
    sheet = tiled(images).repeat(scale, 0).repeat(scale, 1)
    buffer = io.BytesIO()
    imsave(buffer, sheet, cmap="gray", vmin=0.0, vmax=1.0, format="png")
    write_atomically(out, buffer.getvalue())


def grid(images: np.ndarray, columns: int | None = None) -> Figure:
    """A grid of the images [N, H, W], between 0 and 1, white on black."""
    sheet = tiled(images, columns)
    height, width = np.maximum(0.1, 6.0 * np.array(sheet.shape) / max(sheet.shape))  # inches
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.imshow(sheet, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    axes.set_axis_off()
    return figure


def latent_map(codes: np.ndarray, labels: np.ndarray) -> Figure:
    """A map of images by their codes [N, Z] in latent space, coloured by their labels.

    Of more than two latents, the plane is that of their largest variance.
    """
    figure = Figure(figsize=(5.6, 5.0), layout="constrained")
    axes = figure.add_subplot()
    if codes.shape[1] > 2:
        centred = codes - codes.mean(0)
        _, _, directions = np.linalg.svd(centred, full_matrices=False)
        codes = centred @ directions[:2].T  # of a single image there is one direction
        axes.set(xlabel="first principal component", ylabel="second")
    else:
        axes.set(xlabel="first latent", ylabel="second")
    places = np.pad(codes, ((0, 0), (0, 2 - codes.shape[1])))
    points = axes.scatter(places[:, 0], places[:, 1], c=labels, s=6, cmap="tab10" if labels.max() < 10 else "viridis")
    figure.colorbar(points, ax=axes, label="label")
    return figure

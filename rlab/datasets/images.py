"""Labelled images: MNIST, scikit-learn's digits, or a file of one's own."""

import contextlib
import hashlib
import sys
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rlab.arrays import read_npz
from rlab.errors import BadInputError
from rlab.notify import Unfailing, waiting

ENVIRONMENT = "env:"  # how sources of images begin that are environments
FRAMES = 8_000, 1_000  # of an environment, to train and to test
_DIGITS = 1_437  # of scikit-learn's, to train
_ARRAYS = ("x_train", "y_train", "x_test", "y_test")


class LabelledImages(NamedTuple):
    """Images with the numbers of their classes."""

    images: np.ndarray  # float32 [N, H, W], between 0 and 1
    labels: np.ndarray  # int32 [N], from 0


class ImageSplits(NamedTuple):
    """A data set in its three parts."""

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    classes: int
    sha256: str  # of all images and labels, by which a run knows its data again


class Extent(NamedTuple):
    """The amount of data in a source of images."""

    images: int  # to train on, without those for validation
    side: int | None  # pixels of the shorter side; None where only the images themselves tell


def extent(source: str) -> Extent | None:
    """The extent of a source of images, known without reading them; None for a file that cannot be read."""
    if source.startswith(ENVIRONMENT):
        return Extent(_kept(FRAMES[0]), None)
    if source in ("mnist", "digits"):
        return Extent(_kept(60_000), 28) if source == "mnist" else Extent(_kept(_DIGITS), 8)
    try:
        with zipfile.ZipFile(source) as archive, archive.open("x_train.npy") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            count, height, width = read(file)[0]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, RuntimeError, NotImplementedError, zlib.error):
        return None  # said by who loads it
    return Extent(_kept(count), min(height, width))


def load_images(source: str) -> ImageSplits:
    """Load `mnist` (downloaded once by Keras), `digits` (scikit-learn's, 8×8, offline), an `.npz` file by its path, or
    `env:NAME`, the images of an environment under random actions, all of one class (`rlab/datasets/frames.py`).

    A file holds x_train and x_test, uint8 [N, H, W], and y_train and y_test, integers [N], as Keras's mnist.npz does.
    A twelfth of the training images, always the same, is for validation. Raises BadInputError when there is no such
    file, when it holds something else, or when the download fails.
    """
    if source.startswith(ENVIRONMENT):
        from rlab.datasets.frames import frames

        shown = frames(source.removeprefix(ENVIRONMENT), FRAMES[0] + FRAMES[1], 0)
        arrays = [(part, np.zeros(len(part), np.int32)) for part in np.split(shown, [FRAMES[0]])]
        brightest = 255.0
    elif source == "digits":
        arrays, brightest = _digits(), 16.0
    else:
        arrays, brightest = _mnist() if source == "mnist" else _read(Path(source)), 255.0
    found = _sha256(arrays)
    (x, y), (x_test, y_test) = [
        (images * np.float32(1.0 / brightest), labels.astype(np.int32)) for images, labels in arrays
    ]
    order = np.random.default_rng(0).permutation(len(x))  # a file may be sorted by class
    x, y = x[order], y[order]
    kept = _kept(len(x))
    return ImageSplits(
        LabelledImages(x[:kept], y[:kept]),
        LabelledImages(x[kept:], y[kept:]),
        LabelledImages(x_test, y_test),
        int(y.max()) + 1,  # those of the test set are among them
        found,
    )


def _sha256(parts: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """The digest of parts of a data set, in hexadecimal."""
    found = hashlib.sha256()
    for images, labels in parts:
        for array in (images, labels.astype(np.int32)):
            found.update(f"{array.dtype} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _kept(count: int) -> int:
    """The number of images to train on, of `count`; the others are for validation."""
    return max(0, count - max(1, count // 12))


def binarize(images: np.ndarray, seed: int) -> np.ndarray:
    """Images of 0 and 1, float32 [N, H, W]: each pixel is 1 with the probability that is its brightness.

    So MNIST is binarized for models of its likelihood (Salakhutdinov and Murray 2008).
    """
    return (np.random.default_rng(seed).random(images.shape, np.float32) < images).astype(np.float32)


def _digits() -> list[tuple[np.ndarray, np.ndarray]]:
    """scikit-learn's 1,797 digits: 1,437 for training, 360 for testing, in a fixed random order."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.images))
    return [(data.images[part].astype(np.float32), data.target[part]) for part in (order[:_DIGITS], order[_DIGITS:])]


def _mnist() -> list[tuple[np.ndarray, np.ndarray]]:
    import keras

    try:
        # The progress of the download is not the program's answer.
        with waiting("downloading"), contextlib.redirect_stdout(Unfailing(sys.stderr)):
            return list(keras.datasets.mnist.load_data())
    except Exception as error:
        raise BadInputError(
            f"MNIST could not be downloaded ({error}); give the path of an mnist.npz with --data PATH, "
            "or use --data digits, which needs no network"
        ) from error


def _read(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    if not (path.is_file() and zipfile.is_zipfile(path)):  # of a device without an end it would read for ever
        kinds = {"is no .npz file": path.is_file(), "is a directory": path.is_dir(), "is no file": path.exists()}
        wrong = next((kind for kind, found in kinds.items() if found), "is missing")
        raise BadInputError(
            f"the data file {path} {wrong}; --data takes `mnist`, `digits` or the path of an .npz "
            "(a run keeps it as `data` in its config.json)"
        )
    try:
        x, y, x_test, y_test = read_npz(path, _ARRAYS).values()
    except BadInputError as error:
        raise BadInputError(f"--data {error}") from error
    for name, images, labels in (("train", x, y), ("test", x_test, y_test)):
        _check(path, name, images, labels)
    if x.shape[1:] != x_test.shape[1:]:
        raise BadInputError(f"--data {path}: x_train holds images of {x.shape[1:]}, x_test of {x_test.shape[1:]}")
    if not np.isin(y_test, y).all() or y.max() == 0:
        raise BadInputError(
            f"--data {path}: y_train has labels up to {y.max()}, y_test up to {y_test.max()}; "
            "there must be two or more classes, and examples of all to train on"
        )
    return [(x, y), (x_test, y_test)]


def _check(path: Path, name: str, images: np.ndarray, labels: np.ndarray) -> None:
    fewest = 2 if name == "train" else 1  # one to train, one for validation
    if images.ndim != 3 or images.dtype != np.uint8 or min(images.shape) < 1 or len(images) < fewest:
        raise BadInputError(
            f"--data {path}: x_{name} is {images.dtype} {images.shape}; "
            f"it must be uint8 [N, height, width], N ≥ {fewest}"
        )
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise BadInputError(
            f"--data {path}: y_{name} is {labels.dtype} {labels.shape}; it must be integers [{len(images)}]"
        )
    if labels.min() < 0 or labels.max() > 999:
        raise BadInputError(f"--data {path}: y_{name} runs from {labels.min()} to {labels.max()}; labels begin at 0")

"""Images to learn from: files and what is wrong with them, defaults that suit them, digests, reports of few of them."""

import dataclasses
import io

import numpy as np
import pytest

from rlab.datasets.images import load_images
from rlab.errors import BadInputError
from rlab.models.parameters import ParameterLayout
from rlab.runs.directory import Run
from rlab.tasks import image_grids, training
from rlab.tasks.classification import ImageTask
from rlab.tasks.configs import CONFIGS, GANConfig, ImageConfig, PixelRNNConfig, VAEConfig, defaults
from rlab.tasks.gan import GANTask
from rlab.tasks.pixelrnn import PixelRNNTask
from rlab.tasks.vae import VAETask


def _data(path, train, test, shape, seed=0):
    random = np.random.default_rng(seed)
    arrays = {}
    for part, count in (("train", train), ("test", test)):
        arrays |= {f"x_{part}": random.integers(0, 256, (count, *shape), np.uint8), f"y_{part}": np.arange(count) % 2}
    np.savez(path, **arrays)
    return str(path)


def _applied(task):
    layout = ParameterLayout(task.model)
    return training.Applied(layout, layout.initial(), False)


def test_a_run_knows_its_data_again(tmp_path, capsys):
    path = _data(tmp_path / "own.npz", 40, 5, (4, 4))
    config = ImageConfig(data=path, units=4, batch_size=20, epochs=1)
    training.train(ImageTask(config), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    training.load(ImageTask(config), run)
    _data(path, 40, 5, (4, 4), seed=1)
    changed = ImageTask(config)
    with pytest.raises(BadInputError, match="was trained on other data than"):
        training.load(changed, run)
    with pytest.raises(BadInputError, match="was trained on other data than"):
        training.resume(changed, run, 20)
    assert capsys.readouterr().err.count("note:") == 0
    older = Run(run.path, {key: value for key, value in run.config.items() if key != "data_sha256"})
    training.load(changed, older)
    training.load(changed, older)
    assert capsys.readouterr().err.count("note:") == 1


def test_the_digest_of_data_is_that_of_every_number(tmp_path):
    path = _data(tmp_path / "own.npz", 40, 5, (4, 4))
    with np.load(path) as file:
        arrays = dict(file)
    found = {load_images(path).sha256}
    for name, array in arrays.items():
        other = array.copy()
        other.flat[-1] = 1 - other.flat[-1] if name.startswith("y") else other.flat[-1] ^ 1
        np.savez(path, **(arrays | {name: other}))
        found.add(load_images(path).sha256)
    assert len(found) == 5
    np.savez_compressed(path, **arrays)
    assert load_images(path).sha256 in found


@pytest.mark.parametrize("kind", [ImageConfig, VAEConfig, GANConfig, PixelRNNConfig])
def test_defaults_suit_the_data(kind, tmp_path):
    models = dataclasses.fields(kind)[0].metadata["choices"]
    for model in models:
        whole = kind.for_data("mnist", model=model)
        assert whole == kind(data="mnist", **defaults({v: k for k, v in CONFIGS.items()}[kind], model))
        digits = kind.for_data("digits", model=model)
        assert digits.epochs * (1318 // digits.batch_size) >= 1500
        few = kind.for_data(_data(tmp_path / "few.npz", 60, 2, (28, 28)), model=model)
        assert few.batch_size == 8
        assert kind.for_data(_data(tmp_path / "two.npz", 2, 1, (28, 28)), model=model).batch_size == 1
        assert getattr(few, "shift", None) == getattr(whole, "shift", None)
    assert getattr(digits, "shift", 0) == 0
    assert kind.for_data("digits", epochs=3).epochs == 3
    assert kind.for_data(str(tmp_path / "missing.npz")).epochs == kind().epochs  # said by who reads it


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": np.zeros((5, 4, 4), np.uint8)}, "has no array 'y_train'"),
        ({"x_train": np.zeros((5, 4), np.uint8)}, "must be uint8"),
        ({"x_train": np.zeros((5, 4, 4), np.float32)}, "must be uint8"),
        ({"y_train": np.zeros(4, np.int64)}, "must be integers"),
        ({"y_train": np.full(5, -1)}, "labels begin at 0"),
        ({"x_test": np.zeros((5, 3, 4), np.uint8)}, "x_test of (3, 4)"),
        ({"y_test": np.arange(1, 6)}, "examples of all to train on"),
        ({"y_train": np.zeros(5, int), "y_test": np.zeros(5, int)}, "two or more classes"),
    ],
)
def test_a_wrong_data_file_is_named(arrays, message, tmp_path):
    whole = {"x_train": np.zeros((5, 4, 4), np.uint8), "y_train": np.arange(5)}
    whole |= {"x_test": whole["x_train"], "y_test": whole["y_train"]}
    if "y_train" in message and "no array" in message:
        whole = {}
    path = tmp_path / "data.npz"
    np.savez(path, **(whole | arrays))
    with pytest.raises(BadInputError) as caught:
        load_images(str(path))
    assert message in str(caught.value)


def test_a_file_that_is_no_npz_is_named(tmp_path):
    path = tmp_path / "data.npz"
    path.write_bytes(b"not an archive")
    with pytest.raises(BadInputError, match=r"is no \.npz file"):
        load_images(str(path))
    np.savez(path, **dict.fromkeys(("x_train", "y_train", "x_test", "y_test"), np.zeros(100)))
    path.write_bytes(path.read_bytes().replace(b"NUMPY", b"NIMPY"))
    with pytest.raises(BadInputError, match="cannot be read"):
        load_images(str(path))
    with pytest.raises(BadInputError, match="is a directory"):
        load_images(str(tmp_path))


@pytest.mark.parametrize("option", ["seed=3", "num-envs=2"])
def test_images_of_an_environment_have_its_options_only(option):
    with pytest.raises(BadInputError, match="is no option of an environment"):
        load_images(f"env:Catch,{option}")


def test_digits_need_no_network():
    splits = load_images("digits")
    parts = [splits.train, splits.validation, splits.test]
    assert [len(part.labels) for part in parts] == [1318, 119, 360]
    assert splits.classes == 10
    assert 0.0 <= splits.train.images.min() < splits.train.images.max() <= 1.0


def test_the_validation_images_of_a_file_sorted_by_class_are_of_all_classes(tmp_path):
    labels = np.repeat(np.arange(3), 80)
    x = np.broadcast_to(labels[:, None, None], (240, 4, 4)).astype(np.uint8)
    np.savez(tmp_path / "sorted.npz", x_train=x, y_train=labels, x_test=x[:3], y_test=labels[:3])
    splits = load_images(str(tmp_path / "sorted.npz"))
    assert set(splits.validation.labels.tolist()) == {0, 1, 2}
    np.testing.assert_allclose(splits.train.images[:, 0, 0] * 255.0, splits.train.labels, atol=1e-4)  # pairs stay


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("latents", [1, 2, 3])
def test_a_map_of_few_codes_is_drawn(count, latents):
    figure = image_grids.latent_map(np.random.default_rng(0).normal(size=(count, latents)), np.zeros(count, int))
    figure.savefig(io.BytesIO())


@pytest.mark.parametrize("shape", [(5000, 1), (1, 5000), (3, 7)])
def test_a_grid_of_long_images_is_drawn(shape):
    figure = image_grids.grid(np.zeros((64, *shape), np.float32))
    assert max(figure.get_size_inches()) <= 6.0
    figure.savefig(io.BytesIO(), dpi=20)


@pytest.mark.parametrize(
    ("kind", "model", "settings"),
    [
        (ImageTask, "mlp", {}),
        (VAETask, "mlp", {"latents": 3}),
        (GANTask, "mlp", {"latents": 2}),
        (PixelRNNTask, "pixelcnn", {"depth": 1}),
    ],
)
@pytest.mark.parametrize(("test", "shape"), [(1, (5, 1)), (3, (1, 4))])
def test_few_and_thin_images_are_reported_on(kind, model, settings, test, shape, tmp_path):
    config = kind.Config.for_data(_data(tmp_path / "few.npz", 4, test, shape), model=model, units=4, **settings)
    task = kind(config)
    applied = _applied(task)
    assert all(np.isfinite(value) for value in task.evaluate(applied, "test").values())
    report = task.report(applied)
    for figure in report.pictures.values():
        figure.savefig(io.BytesIO(), dpi=20)


def test_a_device_is_not_read_to_its_end():
    with pytest.raises(BadInputError, match="/dev/zero is no file"):
        load_images("/dev/zero")

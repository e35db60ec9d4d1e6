import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from rlab.datasets import sequences
from rlab.errors import BadInputError, TrainingError
from rlab.models.parameters import ParameterLayout
from rlab.runs.directory import Run
from rlab.tasks import GENERATIVE, TASKS, training
from rlab.tasks.classification import ImageTask, shifted
from rlab.tasks.configs import (
    CONFIGS,
    IMAGE_MODELS,
    GANConfig,
    ImageConfig,
    NBackConfig,
    PixelRNNConfig,
    RepeatCopyConfig,
    from_run,
)
from rlab.tasks.gan import GANTask
from rlab.tasks.pixelrnn import PixelRNNTask
from rlab.tasks.sequences import NBack, RepeatCopy

# Each learns a small instance in seconds: the flags, and the test metric that it must reach.
SMALL = {
    "linear-regression": ("--epochs 60 --samples 500 --learning-rate 0.5", "mean_squared_error", 0.0, 0.012),
    "mnist": ("--data digits", "accuracy", 0.97, 1.0),  # the defaults suit the data
    "nback": ("--n 1 --k 3 --mean-length 8 --deviation 1 --units 16 --epochs 30", "accuracy", 0.98, 1.0),
    "copy": ("--model lstm --bits 2 --max-length 2 --epochs 4 --learning-rate 1e-2", "wrong_bits", 0.0, 0.5),
    "repeat-copy": (
        "--model dnc --units 16 --bits 2 --max-length 1 --epochs 3 --learning-rate 1e-2",
        "wrong_bits",
        0.0,
        0.5,
    ),
    "addition": (
        "--digits 2 --samples 6000 --batch-size 100 --epochs 12 --units 48 --learning-rate 1e-2",
        "token_accuracy",
        0.75,
        1.0,
    ),
    "reverse": (
        "--symbols 4 --max-length 4 --samples 4000 --epochs 15 --units 48 --learning-rate 1e-2",
        "accuracy",
        0.9,
        1.0,
    ),
    # A digit of 8×8 binary pixels has 44 nats if every pixel is a coin.
    "vae": ("--data digits --units 64 --latents 8 --epochs 12 --batch-size 64 --learning-rate 3e-3", "nll", 0.0, 27.0),
    # Of noise the density has −60 nats and less.
    "gan": ("--data digits --model mlp --units 64 --latents 8 --epochs 20 --learning-rate 2e-3", "parzen", -25.0, 50.0),
    "pixelrnn": ("--data digits --units 8 --depth 1 --epochs 5 --learning-rate 2e-2", "nll", 0.0, 26.0),
}


def test_no_task_is_missing():
    assert set(SMALL) == set(TASKS) == set(CONFIGS)


@pytest.mark.parametrize("task", SMALL)
def test_each_task_solves_a_small_instance_from_the_command_line(task, launch, tmp_path):
    flags, metric, low, high = SMALL[task]
    done = launch(task, *flags.split(), "--run", "run")
    assert done.returncode == 0, done.stderr
    told = dict(part.rsplit(" ", 1) for part in done.stdout.splitlines()[-1].removeprefix("test: ").split(", "))
    assert low <= float(told[metric.replace("_", " ")]) <= high, told
    if task in ("mnist", "vae"):
        again = json.loads(launch("evaluate", "run", "--json").stdout)
        assert {name.replace("_", " "): f"{value:.4g}" for name, value in again.items()} == told
    run = tmp_path / "run"
    kept = json.loads((run / "test.json").read_text())
    assert kept.pop("steps") == int((run / "metrics.csv").read_text().splitlines()[-1].split(",")[0])
    assert {name.replace("_", " "): f"{value:.4g}" for name, value in kept.items()} == told
    assert (run / "metrics.csv").read_text().startswith("steps,seconds,steps_per_second,loss")
    assert list((run / "tensorboard").iterdir())
    assert len(list((run / "checkpoints").iterdir())) <= 3
    if task in ("linear-regression", "mnist", *GENERATIVE):
        assert list((run / "pictures").glob("*.png"))
    if task == "repeat-copy":
        assert (run / "pictures" / "memory.png").stat().st_size > 1000
    if task in GENERATIVE:
        assert len(list((run / "pictures").glob("samples-*.png"))) > 3
        # The seed decides; of one model it is tried.
        drawn = [("a", 1), ("b", 1), ("c", 2)] if task == "vae" else [("a", 1)]
        for name, seed in drawn:
            assert launch("sample", "run", "--count", 9, "--seed", seed, "--out", f"{name}.png").returncode == 0
    if task == "vae":
        first, again, second = ((tmp_path / f"{name}.png").read_bytes() for name, _ in drawn)
        assert first == again != second
        done = launch("sample", "run", "--out", "/proc/grid.png")
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert done.stderr.startswith("error: /proc/grid.png cannot be written: ")


EIGHT_UPDATES = {
    "nback": (NBack, NBackConfig(n=1, mean_length=6.0, deviation=1.0, samples=32, batch_size=16, units=4, epochs=4)),
    "gan": (GANTask, GANConfig(model="mlp", data="digits", units=4, batch_size=512, epochs=4, averaging=0.9)),
    "cnn": (ImageTask, ImageConfig(model="cnn", data="digits", units=4, batch_size=512, epochs=4)),
}


@pytest.mark.parametrize("name", EIGHT_UPDATES)
def test_a_resumed_run_equals_one_that_was_never_stopped(name, tmp_path):
    Task, config = EIGHT_UPDATES[name]
    training.train(Task(config, 5), tmp_path / "whole")

    class StoppedError(Exception):
        pass

    class Stopping(Task):
        def batch(self, update):
            if update == 5:
                raise StoppedError
            return super().batch(update)

    learner = training.Learner(Stopping(config, 5), 8)
    with pytest.raises(StoppedError):
        list(learner.updates())
    run = Run.create(tmp_path / "parts", training.settings_of(Task(config, 5)) | {"steps": 8})
    run.save_checkpoint(learner.checkpoint())
    training.resume(Task(config, 5), Run.open(run.path), None)
    whole, parts = (Run.open(tmp_path / name).latest_checkpoint() for name in ("whole", "parts"))
    assert whole.steps == parts.steps == 8
    assert whole.arrays.keys() == parts.arrays.keys()
    for name, array in whole.arrays.items():
        assert array.shape == parts.arrays[name].shape
        np.testing.assert_array_equal(array, parts.arrays[name], err_msg=name)
    with pytest.raises(BadInputError, match="another seed"):
        training.resume(Task(config, 6), run, 20)


def test_resume_of_a_finished_run_shows_it_again_and_goes_on_when_asked(launch):
    flags = ["--n", "1", "--mean-length", "6", "--samples", "64", "--units", "4", "--epochs", "2", "--run", "run"]
    assert launch("nback", *flags).returncode == 0
    again = launch("resume", "run")
    assert again.returncode == 0
    assert "test: accuracy" in again.stdout
    fewer = launch("resume", "run", "--steps", 2)
    assert fewer.returncode == 2
    assert "has made 2 updates" in fewer.stderr
    assert launch("resume", "run", "--steps", 3).returncode == 0
    misplaced = launch("evaluate", "run", "--episodes", 3)
    assert misplaced.returncode == 2
    assert "--episodes is for agents" in misplaced.stderr


@pytest.mark.parametrize("model", IMAGE_MODELS)
def test_every_image_model_trains_on_digits(model, launch, tmp_path):
    flags = ["--units", 8, "--depth", 3, "--epochs", 1, "--shift", 1]
    done = launch("mnist", "--model", model, "--data", "digits", *flags, "--run", "run")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "pictures" / "filters.png").stat().st_size > 500


def test_a_file_of_few_images_and_a_moved_one(launch, tmp_path):
    x, y = np.random.default_rng(0).integers(0, 255, (40, 6, 6)).astype(np.uint8), np.arange(40) % 3
    np.savez(tmp_path / "few.npz", x_train=x, y_train=y, x_test=x[:3], y_test=y[:3])
    flags = ["--batch-size", 10, "--epochs", 1, "--units", 4]
    assert launch("mnist", "--data", "few.npz", *flags, "--run", "run").returncode == 0
    (tmp_path / "few.npz").rename(tmp_path / "moved.npz")
    gone = launch("evaluate", "run")
    assert gone.returncode == 2
    assert "is missing" in gone.stderr


def test_levels_and_binarization_must_fit():
    with pytest.raises(BadInputError, match="needs --binarization none"):
        PixelRNNTask(PixelRNNConfig(data="digits", levels=4))
    with pytest.raises(BadInputError, match="needs --levels above 2"):
        PixelRNNTask(PixelRNNConfig(data="digits", binarization="none"))


def test_a_batch_in_parts_is_the_batch():
    config = PixelRNNConfig(model="pixelcnn", data="digits", units=4, depth=1, batch_size=6)
    found = []
    for parts in (1, 2, 3):
        task = PixelRNNTask(config)
        task.parts, task.xla = parts, False
        learner = training.Learner(task, 10)
        metrics = [learner.update() for _ in range(2)]
        found.append((learner.params.numpy(), metrics[-1]["loss"], metrics[-1]["gradient_norm"]))
    for params, *metrics in found[1:]:
        np.testing.assert_allclose(params, found[0][0], atol=1e-5)
        np.testing.assert_allclose(metrics, found[0][1:], rtol=1e-4)


def test_a_gradient_that_is_not_finite_ends_the_run(tmp_path):
    class Exploding(NBack):
        def loss(self, batch):
            loss, metrics = super().loss(batch)
            return loss + tf.sqrt(tf.reduce_sum(self.model.head.bias - self.model.head.bias)), metrics

    config = NBackConfig(n=1, mean_length=6.0, deviation=1.0, samples=32, batch_size=16, units=4, epochs=1)
    with pytest.raises(TrainingError, match="gradient_norm"):
        training.train(Exploding(config), tmp_path / "run")
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nback --n 0", "--n must be"),
        ("nback --n 30", "less than --mean-length"),
        ("nback --k 1", "--k must be"),
        ("nback --model lstmm", "did you mean 'lstm'"),
        ("mnist --depth 0", "--depth must be"),
        ("mnist --data no/such.npz", "is missing"),
        ("mnist --data digits --batch-size 5000", "--batch-size must be at most"),
        ("linear-regression --features polynomial", "--dimensions 1"),
        ("repeat-copy --min-length 3", "--min-length must be at most"),
        ("nbackk", "did you mean 'nback'"),
        ("addition --samples 5", "--batch-size must be at most"),
        ("mnist --data digits --shift 8", "--shift must be less"),
        ("reverse --symbols 2 --max-length 1", "too few sequences"),
        ("vae --data digits --binarization none", "needs --likelihood gaussian"),
        ("gan --data env:CartPole-v1", "no images"),
        ("gan --data env:Catch,restorable=True", "'restorable' is no option of an environment"),
        ("sample nothing --out grid.png", "nothing"),
        ("sample nothing --out grid.gif", "its name must end in .png"),
        ("sample nothing --out no/such/grid.png", "is not a directory"),
        ("sample nothing --out grid.png --count 0", "--count must be at least 1"),
    ],
)
def test_bad_input_gets_one_line(arguments, message, launch, tmp_path):
    done = launch(*arguments.split())
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_n_back_asks_where_a_symbol_is_that_of_n_steps_before():
    data = sequences.n_back(512, 3, 4, 20.0, 5.0, 0)
    symbols, lengths = data.inputs.argmax(-1), data.valid.sum(0).astype(int)
    assert 19.0 < lengths.mean() < 21.0
    assert 4.0 < lengths.std() < 6.0
    assert lengths.min() >= 4
    np.testing.assert_array_equal(data.asked, data.valid)  # the padding alone is masked
    for b, length in enumerate(lengths):
        for t in range(length):
            assert data.targets[t, b] == (t >= 3 and symbols[t, b] == symbols[t - 3, b])
        assert not data.valid[length:, b].any()
    assert 0.2 < data.targets[3:][data.valid[3:] > 0.0].mean() < 0.3  # by chance one of four


def test_padding_changes_neither_loss_nor_accuracy():
    task = NBack(NBackConfig(n=1, mean_length=6.0, samples=16, batch_size=4, units=4))
    task.model.head.bias.assign([1.0, -1.0])  # else every answer to padding costs the same
    data, mask = task.data["test"], task.data["test"].valid
    other = np.where(mask[..., None] > 0.0, data.inputs, 1.0).astype(np.float32)
    spoilt = data._replace(inputs=other, targets=np.where(mask > 0.0, data.targets, 1).astype(np.int32))
    for one, two in zip(tf.nest.flatten(task.loss(data)), tf.nest.flatten(task.loss(spoilt)), strict=True):
        assert float(one) == float(two)


def test_a_run_of_version_0_1_means_what_it_meant():
    old = {name: value for name, value in dataclasses.asdict(NBackConfig(k=5)).items() if name != "target"}
    config = from_run({"task": "nback", "config": old})
    assert config == NBackConfig(k=5, target="symbol")
    assert NBack(config).model.head.units == 5
    with pytest.raises(BadInputError, match="did you mean 'nback'"):
        from_run({"task": "n-back", "config": old})


def test_n_back_asks_for_the_symbol_that_was_shown_n_steps_before():
    data = sequences.n_back(50, 3, 4, 20.0, 5.0, 0, "symbol")
    symbols = data.inputs.argmax(-1)
    lengths = data.valid.sum(0).astype(int)
    assert 17 < lengths.mean() < 23
    for b, length in enumerate(lengths):
        assert data.asked[:3, b].sum() == 0
        np.testing.assert_array_equal(data.targets[3:length, b], symbols[: length - 3, b])
        assert data.asked[3:length, b].all()
        assert not data.asked[length:, b].any()


def test_repeat_copy_asks_for_the_words_as_often_as_it_says():
    data = sequences.repeat_copy(20, 3, (1, 4), (1, 3), sequences.repeat_copy_steps(4, 3), 1)
    for b in range(20):
        length = int(np.argmax(data.inputs[:, b, 4] > 0.0)) - 1
        times = round(float(data.inputs[length + 1, b, 4]) * 10)
        words = data.inputs[1 : length + 1, b, :3]
        answer = data.targets[length + 2 : length + 2 + length * times, b, :3]
        np.testing.assert_array_equal(answer, np.tile(words, (times, 1)))
        assert data.targets[:, b, 3].sum() == 1.0
        assert data.asked[:, b].sum() == length * times + 1


def test_additions_are_distinct_and_right():
    problems = sequences.additions(500, 2, "train", 0)
    assert len({tuple(p) for p in problems.tolist()}) == 500
    pairs = sequences.addition_pairs(problems, 2)
    for b in range(20):
        text = "".join(sequences.ADDITION[t] for t in pairs.source[:, b] if t < sequences.END)
        answer = "".join(sequences.ADDITION[t] for t in pairs.target[:, b] if t < sequences.END)
        left, right = map(int, text.split("+"))
        assert left + right == int(answer)
    parts = [sequences.additions(1000, 1, part, 0) for part in ("train", "validation", "test")]
    assert len({tuple(p) for part in parts for p in part.tolist()}) == sum(map(len, parts)) == 100  # all there are


def test_reversals_of_one_part_are_in_no_other():
    sets = []
    for part in ("train", "validation", "test"):
        pairs = sequences.reversals(2000, 4, 4, part, 0)
        sets.append({tuple(column) for column in pairs.source.T.tolist()})
        for b in range(10):
            length = int(pairs.source_valid[:, b].sum())
            np.testing.assert_array_equal(pairs.target[:length, b], pairs.source[:length, b][::-1])
            assert pairs.target[length, b] == 4
    assert all(sets)
    assert not (sets[0] & sets[1])
    assert not (sets[0] & sets[2])
    assert not (sets[1] & sets[2])


def test_shifts_move_whole_images():
    images = np.zeros((40, 5, 5), np.float32)
    images[:, 2, 2] = 1.0
    moved = shifted(images, 1, np.random.default_rng(0))
    assert (moved.sum(axis=(1, 2)) == 1.0).all()
    rows, columns = np.nonzero(moved)[1:]
    assert set(rows) == set(columns) == {1, 2, 3}


def test_twice_the_length_is_told_of_repeat_copy():
    task = RepeatCopy(RepeatCopyConfig(model="lstm", units=4, bits=2, max_length=1))
    layout = ParameterLayout(task.model)
    found = task.evaluate(training.Applied(layout, layout.initial(), task.xla), "test")
    assert set(found) == {"wrong_bits", "nll", "wrong_bits_at_twice_the_length"}
    assert found["wrong_bits_at_twice_the_length"] > 0.0


def test_a_task_loads_no_tensorflow_for_its_help(launch):
    done = launch("mnist", "--help")
    assert done.returncode == 0
    assert "--epochs" in done.stdout
    probe = "import sys, launch.__main__, launch.tasks; print('tensorflow' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "False"

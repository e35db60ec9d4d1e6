"""The generative models: training time against plain Keras, and images drawn a second.

    pip install -e '.[bench]'
    python benchmarks/generation.py epoch --data mnist
    python benchmarks/generation.py sampling --data mnist

`epoch`: the same network, batches and optimizer as `launch vae`, `gan` and `pixelrnn` with their defaults, in one
process and in turn, against a Keras model whose `train_step` is written as Keras's own examples are, under `Model.fit`.
Each in a process with one compute thread and in one with as many as there are cores; a ratio is ours by Keras's, the
fastest of each. A part of an epoch is timed, medians over rounds after one that does not count. PixelRNNs have no like
in Keras: the reference is PixelCNN's masked convolutions, and of the LSTMs a `keras.layers.RNN` over rows and over
diagonals.
`sampling`: PixelRNN's samples with what its neighbours left behind, against the whole network anew for every pixel,
whose seconds for an image are those of eight pixels times the rest.
Writes `benchmarks/results/generation-*.json`. Nothing else may run meanwhile.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from models import seconds

from launch.process import start_tensorflow

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = ("vae", "vae cnn", "gan", "gan cnn", "pixelcnn", "row-lstm", "diagonal-bilstm")
KINDS = ("pixelcnn", "row-lstm", "diagonal-bilstm")
UPDATES = {"vae": 100, "vae cnn": 20, "gan": 60, "gan cnn": 20, "pixelcnn": 20, "row-lstm": 20, "diagonal-bilstm": 12}


def make(part: str, data: str) -> Any:
    """The task with its default settings."""
    import importlib

    from rlab.tasks import TASKS
    from rlab.tasks.configs import CONFIGS, defaults

    name, *model = part.split()
    if name in KINDS:
        name, model = "pixelrnn", [name]
    kind = CONFIGS[name]
    config = kind(**(defaults(name, model[0] if model else kind().model) | {"data": data}))
    module, task = TASKS[name]
    return getattr(importlib.import_module(f"rlab.tasks.{module}"), task)(config)


def epoch(part: str, data: str, rounds: int) -> dict[str, float]:
    """Some updates of ours and of Keras's on the same images."""
    from rlab.tasks import training

    task = make(part, data)
    learner = training.Learner(task, 10**9)
    updates, size = UPDATES[part], task.config.batch_size

    def ours() -> None:
        for _ in range(updates):
            learner.update()

    theirs = twin(part, task)
    count = sum(int(np.prod(variable.shape)) for variable in theirs.trainable_variables)
    assert count == learner.layout.size, f"{part}: {count} parameters, and ours has {learner.layout.size}"
    theirs.compile(jit_compile="auto")
    images = task.pixels.images["train"][: updates * size]
    return seconds({"rlab": ours, "keras": lambda: theirs.fit(images, batch_size=size, verbose=0)}, rounds)


def twin(part: str, task: Any) -> Any:
    """The network of a task in Keras's own layers, with the loss in a `train_step`."""
    import keras
    import tensorflow as tf
    from keras import layers

    config, (height, width) = task.config, task.pixels.shape
    pixels = height * width

    class Fitted(keras.Model):
        """One optimizer and one loss."""

        def compile(self, **options: Any) -> None:
            super().compile(optimizer=keras.optimizers.Adam(config.learning_rate), **options)
            self.tracker = keras.metrics.Mean("loss")

        def train_step(self, images: Any) -> dict:
            with tf.GradientTape() as tape:
                loss = self.loss_of(images)
            variables = self.trainable_variables
            self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            self.tracker.update_state(loss)
            return {"loss": self.tracker.result()}

    def through(parts: list, x: Any) -> Any:
        for layer in parts:
            x = layer(x)
        return x

    def deconvolution(filters: tuple[int, int], normalized: bool) -> list:
        quarter = height // 4, width // 4, filters[0]
        norm = [lambda: layers.LayerNormalization(axis=(1, 2, 3))] if normalized else []
        return [
            layers.Dense(quarter[0] * quarter[1] * quarter[2]),
            layers.Reshape(quarter),
            *(make() for make in norm),
            layers.ReLU(),
            layers.Conv2DTranspose(filters[1], 4, 2, "same"),
            *(make() for make in norm),
            layers.ReLU(),
            layers.Conv2DTranspose(1, 4, 2, "same"),
        ]

    if part.startswith("vae"):

        class Twin(Fitted):
            def __init__(self) -> None:
                super().__init__()
                self.head = layers.Dense(2 * config.latents)
                if config.model == "mlp":
                    hidden = [config.units] * config.depth
                    self.encoder = [layers.Flatten(), *(layers.Dense(units, "relu") for units in hidden)]
                    self.decoder = [*(layers.Dense(units, "relu") for units in hidden), layers.Dense(pixels)]
                else:
                    convolutions = [layers.Conv2D(filters, 4, 2, "same", activation="relu") for filters in (32, 64)]
                    self.encoder = [*convolutions, layers.Flatten(), layers.Dense(config.units, "relu")]
                    self.decoder = deconvolution((64, 32), False)
                self.loss_of(tf.zeros((1, height, width)))

            def loss_of(self, images: Any) -> Any:
                mean, log_variance = tf.split(self.head(through(self.encoder, images[..., None])), 2, -1)
                latents = mean + tf.exp(0.5 * log_variance) * tf.random.normal(tf.shape(mean))
                logits = tf.reshape(through(self.decoder, latents), tf.shape(images))
                each = tf.nn.sigmoid_cross_entropy_with_logits(images, logits)
                kl = 0.5 * tf.reduce_sum(mean**2 + tf.exp(log_variance) - log_variance - 1.0, -1)
                return tf.reduce_mean(tf.reduce_sum(each, (1, 2)) + kl)

    elif part.startswith("gan"):

        class Twin(keras.Model):
            def __init__(self) -> None:
                super().__init__()
                leaky = lambda: layers.LeakyReLU(negative_slope=0.2)  # noqa: E731
                if config.model == "mlp":
                    self.drawing = []
                    for _ in range(2):
                        self.drawing += [layers.Dense(config.units), layers.LayerNormalization(), layers.ReLU()]
                    self.drawing.append(layers.Dense(pixels))
                    self.judging = [layers.Flatten()]
                    for _ in range(2):
                        self.judging += [layers.Dense(config.units), leaky()]
                else:
                    self.drawing = deconvolution((2 * config.units, config.units), True)
                    self.judging = []
                    for filters in (config.units, 2 * config.units):
                        self.judging += [layers.Conv2D(filters, 4, 2, "same"), leaky()]
                    self.judging.append(layers.Flatten())
                self.judging.append(layers.Dense(1))
                through(self.judging, self.draw(2))

            def draw(self, count: int) -> Any:
                logits = through(self.drawing, tf.random.normal((count, config.latents)))
                return tf.sigmoid(tf.reshape(logits, (count, height, width, 1)))

            def compile(self, **options: Any) -> None:
                super().compile(**options)
                averaged = {"use_ema": True, "ema_momentum": config.averaging}  # as ours are
                self.optimizers = [
                    keras.optimizers.Adam(config.learning_rate, config.beta_1, **averaged) for _ in range(2)
                ]
                self.trackers = [keras.metrics.Mean(name) for name in ("discriminator", "generator")]

            def train_step(self, images: Any) -> dict:
                parts = [
                    [variable for layer in part for variable in layer.trainable_variables]
                    for part in (self.judging, self.drawing)
                ]
                with tf.GradientTape(persistent=True) as tape:
                    drawn, pixels = self.draw(config.batch_size), images[..., None]
                    with tf.GradientTape() as inner:
                        inner.watch(pixels)
                        real = through(self.judging, pixels)
                    slopes = inner.gradient(real, pixels)
                    steepness = 0.5 * config.penalty * tf.reduce_mean(tf.reduce_sum(slopes**2, (1, 2, 3)))
                    false = through(self.judging, drawn)
                    losses = (
                        tf.reduce_mean(tf.nn.softplus(-real)) + tf.reduce_mean(tf.nn.softplus(false)) + steepness,
                        tf.reduce_mean(tf.nn.softplus(-false)),
                    )
                for loss, variables, optimizer, tracker in zip(
                    losses, parts, self.optimizers, self.trackers, strict=True
                ):
                    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
                    tracker.update_state(loss)
                return {tracker.name: tracker.result() for tracker in self.trackers}

    else:
        Twin = pixel_twin(part, task, Fitted)
    return Twin()


def pixel_twin(part: str, task: Any, Fitted: type) -> type:
    """PixelCNN, and PixelRNNs with Keras's own loop over rows and over diagonals."""
    import tensorflow as tf
    from keras import layers

    from rlab.models.pixelrnn_diagonal import skew, unskew

    config, (height, width) = task.config, task.pixels.shape
    units = config.units

    class Masked(layers.Conv2D):
        """The rows that a mask would hide are left out, as ours does, so that both have the same parameters."""

        def __init__(self, filters: int, size: int, centre: bool) -> None:
            super().__init__(filters, (size // 2 + 1, size), padding="valid")
            self.reach = size // 2
            seen = np.ones((self.reach + 1, size, 1, 1), np.float32)
            seen[-1, self.reach + centre :] = 0.0
            self.seen = seen

        def call(self, x: Any) -> Any:
            k = self.reach
            padded = tf.pad(x, ((0, 0), (k, 0), (k, k), (0, 0)))
            return tf.nn.conv2d(padded, self.kernel * self.seen, 1, "VALID") + self.bias

    class Cell(layers.Layer):
        """An LSTM whose state is a column of H rows, or a row of W; `offsets` are the neighbours it sees."""

        def __init__(self, length: int, offsets: tuple[int, ...]) -> None:
            super().__init__()
            self.length, self.offsets = length, offsets
            self.state_size = [length * units] * 2  # Keras has flat states alone

        def build(self, *_: object) -> None:
            self.kernel = self.add_weight(shape=(len(self.offsets) * units, 4 * units), name="kernel")

        def call(self, z: Any, states: list) -> tuple[Any, list]:
            h, c = (tf.reshape(part, (-1, self.length, units)) for part in states)
            padded = tf.pad(h, ((0, 0), (1, 1), (0, 0)))
            seen = tf.concat([padded[:, 1 + k : 1 + k + self.length] for k in self.offsets], -1)
            o, f, i, g = tf.split(tf.reshape(z, (-1, self.length, 4 * units)) + seen @ self.kernel, 4, -1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            h, c = (tf.reshape(part, (-1, self.length * units)) for part in (tf.sigmoid(o) * tf.tanh(c), c))
            return h, [h, c]

    def loop(cell: layers.RNN, z: Any) -> Any:
        """Along the second axis of [N, S, length, 4·units]."""
        steps = z.shape[1]
        outputs = cell(tf.reshape(z, (-1, steps, cell.cell.length * 4 * units)))
        return tf.reshape(outputs, (-1, steps, cell.cell.length, units))

    class Rows(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.project = layers.Dense(4 * units)
            self.loop = layers.RNN(Cell(width, (-1, 0, 1)), return_sequences=True)

        def call(self, x: Any, _: Any) -> Any:
            left = tf.pad(x, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1]
            return loop(self.loop, self.project(tf.concat([left, x], -1)))

    class Diagonals(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.project, self.pixel = (
                [layers.Dense(4 * units) for _ in range(2)],
                layers.Dense(4 * units, use_bias=False),
            )
            self.loops = [layers.RNN(Cell(height, (0, -1)), return_sequences=True) for _ in range(2)]

        def call(self, x: Any, images: Any) -> Any:
            found = []
            for side, (inputs, project, walk) in enumerate(
                zip((x, x[:, :, ::-1]), self.project, self.loops, strict=True)
            ):
                z = project(inputs) + (self.pixel(images[:, :, ::-1]) if side else 0.0)
                outputs = loop(walk, tf.transpose(skew(z), (0, 2, 1, 3)))
                found.append(unskew(tf.transpose(outputs, (0, 2, 1, 3))))
            left, right = found
            return left + tf.pad(right[:, :-1, ::-1], ((0, 0), (1, 0), (0, 0), (0, 0)))

    class Narrowed(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.narrow, self.convolution = layers.Dense(units), Masked(units, 3, True)

        def call(self, x: Any, _: Any) -> Any:
            return tf.nn.relu(self.convolution(tf.nn.relu(self.narrow(tf.nn.relu(x)))))

    class Twin(Fitted):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            kind = {"pixelcnn": Narrowed, "row-lstm": Rows, "diagonal-bilstm": Diagonals}[part]
            self.first = Masked(2 * units, 7, False)
            self.inner = [kind() for _ in range(config.depth)]
            self.widen = [layers.Dense(2 * units) for _ in range(config.depth)]
            self.last = [layers.Dense(64, "relu"), layers.Dense(1)]
            self.loss_of(tf.zeros((config.batch_size, height, width)))

        def loss_of(self, images: Any) -> Any:
            images = tf.ensure_shape(images, (config.batch_size, height, width))
            pixels = images[..., None]
            x = self.first(pixels)
            for inner, widen in zip(self.inner, self.widen, strict=True):
                x = x + widen(inner(x, pixels))
            for layer in (tf.nn.relu, *self.last):
                x = layer(x)
            each = tf.nn.sigmoid_cross_entropy_with_logits(images, x[..., 0])
            return tf.reduce_mean(tf.reduce_sum(each, (1, 2)))

    return Twin


def sampling(part: str, data: str, rounds: int) -> dict[str, float]:
    """Images a second of an untrained network with its default sizes."""
    import tensorflow as tf

    task = make(part, data)
    model, (height, width), count = task.model, task.pixels.shape, 100

    @tf.function(jit_compile=True)
    def cached() -> Any:
        return model.complete(tf.zeros((count, height, width)), tf.zeros((height, width)), tf.constant([0, 1]))

    @tf.function(jit_compile=True)
    def anew(images: Any) -> Any:
        return model(images)

    def naive() -> None:
        """As many pixels as are needed to know what one takes."""
        images = np.zeros((count, height, width), np.float32)
        generator = np.random.default_rng(0)
        for i, j in list(np.ndindex(height, width))[:8]:
            p = 1.0 / (1.0 + np.exp(-anew(tf.constant(images)).numpy()[:, i, j]))
            images[:, i, j] = generator.random(count) < p

    found = seconds({"cached": lambda: cached().numpy(), "naive": naive}, rounds)
    return {"cached": count / found["cached"], "naive": count / (found["naive"] / 8 * height * width)}


MEASURES = {"epoch": epoch, "sampling": sampling}


def measure(what: str, part: str, all_cores: bool, data: str, rounds: int) -> dict[str, float]:
    """One part in this process, which no other part has used: TensorFlow takes its threads once."""
    start_tensorflow(all_cores)
    return MEASURES[what](part, data, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(MEASURES))
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--parts", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    data = arguments.data if arguments.data in ("mnist", "digits") else str(Path(arguments.data).resolve())
    results: dict[str, dict] = {}
    for part in arguments.parts or (KINDS if arguments.what == "sampling" else EPOCHS):
        times: dict[str, float] = {}
        for all_cores in (False, True):
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                found = process.submit(measure, arguments.what, part, all_cores, data, arguments.rounds).result()
            times |= {f"{name}, {'all cores' if all_cores else 'one thread'}": t for name, t in found.items()}
        sides = ("rlab", "keras") if arguments.what == "epoch" else ("cached", "naive")
        pick = min if arguments.what == "epoch" else max
        best = [pick(value for name, value in times.items() if name.startswith(side)) for side in sides]
        unit = "seconds" if arguments.what == "epoch" else "images_per_second"
        results[part] = {unit: times, "ratio": best[0] / best[1]}
        print(part, json.dumps(results[part], indent=2), flush=True)
    (arguments.out / f"generation-{arguments.what}.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

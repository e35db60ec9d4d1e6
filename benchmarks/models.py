"""Training time of rlab's models against Keras: an epoch of MNIST networks, a gradient of an LSTM and of a DNC.

    pip install -e '.[bench]'
    python benchmarks/models.py --data mnist

Both sides use the same sizes, batches and optimizer, in one process and in turn; figures are medians over the rounds
after a warm-up. Keras trains images by `Model.fit` with its own defaults; the memories, loss and gradient of a batch,
run with XLA and without, and a DNC is held to Keras's LSTM. Each part is measured in a process with one compute thread
and in one with as many as there are cores, and a ratio is ours by Keras's, the fastest of each. Writes
`benchmarks/results/models.json`. Nothing else may run meanwhile.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from launch.process import start_tensorflow

ROOT = Path(__file__).resolve().parents[1]
MEMORIES = {"lstm": (40, 64), "dnc": (9, 16)}  # steps and sequences of a batch


def seconds(runs: dict[str, Callable[[], object]], rounds: int, repeat: int = 1) -> dict[str, float]:
    """The median seconds of each run, taken in turn, after one call that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(repeat):
                run()
            taken[name].append((time.perf_counter() - start) / repeat)
    return {name: statistics.median(times) for name, times in taken.items()}


def keras_twin(config: Any, shape: tuple[int, ...], classes: int) -> Any:
    """The network of an ImageConfig, from Keras's own layers."""
    import keras
    from keras import layers

    def linear(activation: str | None = None) -> Any:
        if config.model.endswith("-cnn"):
            return layers.Conv2D(config.units, 3, padding="same", activation=activation)
        return layers.Dense(config.units, activation)

    x = inputs = keras.Input(shape)
    if config.model == "cnn":
        for filters in (32, 64):
            x = layers.MaxPooling2D()(layers.Conv2D(filters, 5, padding="same", activation="relu")(x))
        x = layers.Dense(config.units, "relu")(layers.Flatten()(x))
    else:
        x = linear("relu")(x)
        for i in range(1, config.depth):
            transformed = linear("relu")(x)
            if config.model.startswith("highway"):
                carry = layers.Activation("sigmoid")(linear()(x))
                x = x * carry + transformed * (1.0 - carry)
            else:
                x = x + transformed if config.model.startswith("residual") else transformed
            if config.model.endswith("-cnn") and i + 1 in (config.depth // 3, config.depth // 3 * 2):
                x = layers.MaxPooling2D()(x)
        if config.model.endswith("-cnn"):
            x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(classes)(x))


def image_epoch(model: str, data: str, rounds: int) -> dict[str, float]:
    """One epoch of batches of 128 without shifts; of convolutions, a part of it."""
    import keras

    from rlab.tasks import training
    from rlab.tasks.classification import ImageTask
    from rlab.tasks.configs import ImageConfig, defaults

    config = ImageConfig(**(defaults("mnist", model) | {"model": model, "data": data, "shift": 0}))
    task = ImageTask(config)
    learner = training.Learner(task, 10**9)
    updates = 60 if config.convolutional else task.updates_per_epoch

    def ours() -> None:
        for _ in range(updates):
            learner.update()

    images, labels = task.splits.train
    images = images[..., None] if config.convolutional else images.reshape(len(images), -1)
    theirs = keras_twin(config, images.shape[1:], task.splits.classes)
    assert theirs.count_params() == learner.layout.size
    theirs.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    count = updates * config.batch_size
    return seconds(
        {
            "rlab": ours,
            "keras_fit": lambda: theirs.fit(images[:count], labels[:count], config.batch_size, verbose=0),
        },
        rounds,
    )


def memory_step(kind: str, time_steps: int, batch: int, rounds: int) -> dict[str, float]:
    """Loss and gradient of one batch of sequences, 64 units, 16 inputs."""
    import keras
    import tensorflow as tf

    from rlab.models.dnc import DNC
    from rlab.models.initializers import seed_stream
    from rlab.models.recurrent import LSTM

    units = 64
    ours = LSTM(units, seed_stream(0)) if kind == "lstm" else DNC(units, seed_stream(0), controller=units)
    theirs = keras.layers.LSTM(units, return_sequences=True)
    inputs = tf.random.stateless_normal((time_steps, batch, 16), (0, 1))
    turned = tf.transpose(inputs, (1, 0, 2))
    ours.build(inputs.shape)
    theirs.build(turned.shape)

    def gradient(layer: Any, x: Any, jit: bool) -> Callable:
        @tf.function(jit_compile=jit)
        def step():
            with tf.GradientTape() as tape:
                outputs = layer(x)
                loss = tf.reduce_mean(tf.square(outputs[0] if isinstance(outputs, tuple) else outputs))
            return tape.gradient(loss, layer.trainable_variables)

        return step

    return seconds(
        {
            "rlab": gradient(ours, inputs, False),
            "rlab_xla": gradient(ours, inputs, True),
            "keras_lstm": gradient(theirs, turned, False),
            "keras_lstm_xla": gradient(theirs, turned, True),
        },
        rounds,
        repeat=30,
    )


def measure(part: str, all_cores: bool, data: str, rounds: int) -> dict[str, float]:
    """One part in this process, which no other part has used: TensorFlow takes its threads once."""
    start_tensorflow(all_cores)
    if part in MEMORIES:
        return memory_step(part, *MEMORIES[part], rounds)
    return image_epoch(part, data, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--parts", nargs="+", default=["mlp", "highway", "residual", "cnn", *MEMORIES])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "models.json")
    arguments = parser.parse_args()
    results = {}
    for part in arguments.parts:
        times: dict[str, float] = {}
        for all_cores in (False, True):
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                found = process.submit(measure, part, all_cores, arguments.data, arguments.rounds).result()
            times |= {f"{name}, {'all cores' if all_cores else 'one thread'}": t for name, t in found.items()}
        best = {side: min(t for name, t in times.items() if name.startswith(side)) for side in ("rlab", "keras")}
        results[part] = {"seconds": times, "ratio": best["rlab"] / best["keras"]}
        print(part, json.dumps(results[part], indent=2), flush=True)
    arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

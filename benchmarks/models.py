"""Training time of rlab's models against Keras: one epoch of MNIST networks, an LSTM with peepholes, a DNC.

    pip install -e '.[bench]'
    python benchmarks/models.py --data mnist

Both sides use the same sizes, batches and optimizer, in one process and in turn; figures are medians over the rounds
after a warm-up. Keras trains by `Model.fit` with its own defaults, its LSTM also with XLA; the faster counts. Writes
`benchmarks/results/models.json`. Nothing else may run meanwhile.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from launch.quiet import start_tensorflow

ROOT = Path(__file__).resolve().parents[1]


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


def image_epoch(model: str, data: str, rounds: int) -> dict[str, float]:
    """One epoch of batches of 128 without shifts."""
    import keras
    import tensorflow as tf

    from rlab.tasks import training
    from rlab.tasks.classification import ImageTask
    from rlab.tasks.configs import ImageConfig, defaults

    config = ImageConfig(**(defaults("mnist", model) | {"model": model, "data": data, "shift": 0}))
    task = ImageTask(config)
    learner = training._Learner(task, 10**9, None)
    updates = task.updates_per_epoch

    def ours() -> None:
        for update in range(updates):
            rate = tf.constant(config.learning_rate)
            learner.params, learner.state, measured = learner._update(
                learner.params, learner.state, task.batch(update), rate
            )
            _ = [float(value) for value in measured.values()]  # as training does after every update

    images, labels = task.splits.train
    layers: list = []
    if model == "cnn":
        for filters in (32, 64):
            layers += [keras.layers.Conv2D(filters, 5, padding="same", activation="relu"), keras.layers.MaxPooling2D()]
        layers.append(keras.layers.Flatten())
        images = images[..., None]
    else:
        layers.append(keras.layers.Flatten())
        layers += [keras.layers.Dense(config.units, "relu") for _ in range(config.depth - 1)]
    layers += [keras.layers.Dense(config.units, "relu"), keras.layers.Dense(task.splits.classes)]
    theirs = keras.Sequential([keras.Input(images.shape[1:]), *layers])
    theirs.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    count = updates * config.batch_size
    times = seconds(
        {
            "rlab": ours,
            "keras_fit": lambda: theirs.fit(images[:count], labels[:count], config.batch_size, verbose=0),
        },
        rounds,
    )
    return times | {"ratio": times["rlab"] / times["keras_fit"], "parameters": learner.layout.size}


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

    def gradient(layer: keras.layers.Layer, x: tf.Tensor, jit: bool) -> Callable:
        @tf.function(jit_compile=jit)
        def step():
            with tf.GradientTape() as tape:
                outputs = layer(x)
                loss = tf.reduce_mean(tf.square(outputs[0] if isinstance(outputs, tuple) else outputs))
            return tape.gradient(loss, layer.trainable_variables)

        return step

    times = seconds(
        {
            "rlab": gradient(ours, inputs, True),
            "keras_lstm": gradient(theirs, turned, False),
            "keras_lstm_xla": gradient(theirs, turned, True),
        },
        rounds,
        repeat=30,
    )
    return times | {"ratio": times["rlab"] / min(times["keras_lstm"], times["keras_lstm_xla"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "models.json")
    arguments = parser.parse_args()
    start_tensorflow(all_cores=True)
    results = {
        "mlp, an epoch": image_epoch("mlp", arguments.data, arguments.rounds),
        "cnn, an epoch": image_epoch("cnn", arguments.data, arguments.rounds),
        "lstm, 40 steps of 64": memory_step("lstm", 40, 64, arguments.rounds),
        "dnc, 9 steps of 16": memory_step("dnc", 9, 16, arguments.rounds),
    }
    arguments.out.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()

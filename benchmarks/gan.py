"""What the adversarial networks draw, judged by a classifier of the project's own: digits present, Fréchet distance.

    pip install -e '.[bench]'
    python benchmarks/gan.py --seeds 0 1 2 --data mnist

Trains `launch gan` and `launch gan --model cnn` with their defaults for each seed, and once `launch mnist --model cnn`;
runs that exist already are used again. Of each GAN: the Parzen-window log-likelihood of the test images in nats (10,000
samples, width by validation images; Goodfellow et al. 2014), how often each digit is among 1,000 samples, and the
Fréchet distance (Heusel et al. 2017) of 10,000 samples to the test images in the classifier's last features, beside
that of 10,000 training images, the best there can be. Writes `benchmarks/results/gan.json` and a grid of samples each.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
KINDS = {"mlp": "gan", "cnn": "gan --model cnn"}


def trained(command: str, seed: int, run: Path, data: str) -> float:
    """Train with the default settings, unless it has been done; the seconds it took."""
    if not (run / "pictures" / "samples.png").exists() and not (run / "pictures" / "confusion.png").exists():
        train = [
            sys.executable,
            "-m",
            "launch",
            *command.split(),
            "--seed",
            str(seed),
            "--data",
            data,
            "--run",
            str(run),
        ]
        subprocess.run(train, check=True, cwd=ROOT)
    return float(list(csv.DictReader((run / "metrics.csv").open()))[-1]["seconds"])


def opened(run: Path) -> tuple[Any, Any]:
    """A task and its trained model."""
    import importlib

    from rlab.runs.directory import Run
    from rlab.settings import from_settings
    from rlab.tasks import TASKS, training
    from rlab.tasks.configs import CONFIGS

    settings = Run.open(run).config
    module, name = TASKS[settings["task"]]
    config = from_settings(CONFIGS[settings["task"]], settings["config"])
    task = getattr(importlib.import_module(f"rlab.tasks.{module}"), name)(config, settings["seed"])
    return task, training.load(task, Run.open(run))


def features(task: Any, apply: Any, images: np.ndarray) -> np.ndarray:
    """The classifier's last features of images [N, H, W], N a multiple of 500."""
    parts = [apply(task.model.torso, images[i : i + 500][..., None]) for i in range(0, len(images), 500)]
    return np.concatenate(parts).astype(np.float64)


def frechet(these: np.ndarray, those: np.ndarray) -> float:
    """|m − m'|² + tr(C + C' − 2 (C C')^½) of the normal distributions that fit two sets of features [N, D]."""
    difference = these.mean(0) - those.mean(0)
    first, second = np.cov(these, rowvar=False), np.cov(those, rowvar=False)
    # C C' is similar to a positive semidefinite matrix: the trace of its root is the sum of its eigenvalues' roots.
    roots = np.sqrt(np.maximum(np.linalg.eigvals(first @ second).real, 0.0))
    return float(difference @ difference + np.trace(first) + np.trace(second) - 2.0 * roots.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    data = arguments.data if arguments.data in ("mnist", "digits") else str(Path(arguments.data).resolve())
    runs = arguments.runs.resolve()
    trained("mnist --model cnn", 0, runs / "classifier", data)
    seconds = {
        (kind, seed): trained(KINDS[kind], seed, runs / f"gan-{kind}-{seed}", data)
        for kind in arguments.kinds
        for seed in arguments.seeds
    }

    from launch.process import start_tensorflow

    start_tensorflow(all_cores=True)
    from rlab.tasks import image_grids

    judge, apply = opened(runs / "classifier")
    real = features(judge, apply, judge.splits.test.images[:10_000])
    results: dict[str, Any] = {
        "classifier_accuracy": judge.evaluate(apply, "test")["accuracy"],
        "frechet_of_training_images": frechet(features(judge, apply, judge.splits.train.images[:10_000]), real),
        "runs": [],
    }
    for (kind, seed), taken in seconds.items():
        task, drawing = opened(runs / f"gan-{kind}-{seed}")
        images = task.sample(drawing, 10_000, 1000)
        digits = np.bincount(judge.predict(apply, images[:1000]).argmax(-1), minlength=10)
        found = {
            "kind": kind,
            "seed": seed,
            "seconds": round(taken, 1),
            "parzen": task.evaluate(drawing, "test")["parzen"],
            "digits": digits.tolist(),
            "frechet": frechet(features(judge, apply, images), real),
        }
        results["runs"].append(found)
        print(json.dumps(found), flush=True)
        image_grids.save(images[:100], arguments.out / f"gan-{kind}-{seed}.png", scale=1)
    (arguments.out / "gan.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

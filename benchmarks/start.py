"""Seconds from a command's start to what its user waits for: the first update of a training, or the command's end.

    pip install -e '.[bench,classic-control]'
    python benchmarks/start.py --out benchmarks/results/start.json [--before TREE]

The first row of metrics is written with the first update. `evaluate`, `record` and `resume` take a small run. `--before
TREE` takes the commands of another checkout along, in turn. Medians over the rounds; nothing else may run meanwhile.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAPER = ("--backbone", "cnn", "--frame-size", "84")
TRAININGS = {
    "a3c, Pong": ("a3c", "--env", "Pong"),
    "a3c, Pong, the paper's network": ("a3c", "--env", "Pong", *PAPER),
    "a3c, CartPole": ("a3c", "--env", "CartPole-v1"),
    "trpo, CartPole": ("trpo", "--env", "CartPole-v1"),
    "snes, CartPole": ("snes", "--env", "CartPole-v1"),
    "rpg, TMaze": ("rpg", "--env", "TMaze"),
}
SMALL = {"CartPole": ("--env", "CartPole-v1", "--steps", "2000"), "Pong": ("--env", "Pong", "--steps", "2000")}


def first_row(tree: Path, words: tuple[str, ...], run: Path, rows: int = 0) -> float:
    """Seconds until the run has more than so many rows of metrics; the command is then stopped."""
    began, table = time.monotonic(), run / "metrics.csv"
    with subprocess.Popen(_called(words), cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not table.exists() or table.read_text().count("\n") < rows + 2:  # the first line names the columns
            time.sleep(0.01)
            if process.poll() is not None and table.read_text().count("\n") < rows + 2:
                raise SystemExit(f"{' '.join(words)} made no update")
        seconds = time.monotonic() - began
        process.terminate()
    return seconds


def whole(tree: Path, words: tuple[str, ...]) -> float:
    """Seconds until the command ends."""
    began = time.monotonic()
    subprocess.run(_called(words), cwd=tree, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def _called(words: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "launch", *words]


def measure(tree: Path, directory: Path) -> dict[str, float]:
    """All commands of one checkout, once."""
    found = {}
    for number, (name, words) in enumerate(TRAININGS.items()):
        run = directory / str(number)
        # Of so few steps each update has a row.
        found[name] = first_row(tree, (*words, "--steps", "50000", "--run", str(run)), run)
    for name, words in SMALL.items():
        run = directory / f"small-{name}"
        whole(tree, ("a3c", *words, "--run", str(run)))
        found[f"evaluate, {name}"] = whole(tree, ("evaluate", str(run), "--episodes", "1", "--max-steps", "100000"))
        found[f"record, {name}"] = whole(tree, ("record", str(run), "--out", str(directory / f"{name}.mp4")))
        rows = (run / "metrics.csv").read_text().count("\n") - 1
        found[f"resume, {name}"] = first_row(tree, ("resume", str(run), "--steps", "50000"), run, rows)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    trees = {"now": ROOT} | ({"before": given.before.resolve()} if given.before else {})
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
    for _ in range(given.rounds):
        for name, tree in trees.items():
            with tempfile.TemporaryDirectory() as directory:
                rounds[name].append(measure(tree, Path(directory)))
    found = {
        command: {name: round(statistics.median(one[command] for one in rounds[name]), 2) for name in trees}
        for command in rounds["now"][0]
    }
    for command, seconds in found.items():
        print(f"{command:32} " + "  ".join(f"{name} {taken:.1f} s" for name, taken in seconds.items()))
    if given.out:
        given.out.write_text(json.dumps({"cores": len(os.sched_getaffinity(0)), "seconds": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()

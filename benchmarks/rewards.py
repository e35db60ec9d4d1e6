"""Learned rewards against going without: a novelty bonus, and imitation of demonstrations.

    pip install -e '.[bench,mujoco]'
    python benchmarks/rewards.py novelty --seeds 0 1 2
    python benchmarks/rewards.py imitation --seeds 0 1 2

`novelty`: each agent on DeepSea with and without `--novelty`, of the same settings, steps and seeds. `imitation`: TRPO
from ten recorded episodes, which never sees the environment's rewards, beside TRPO that sees nothing else, of the same
steps and seeds; and the demonstrator's own score. Every run is a real `python -m launch` command, scored by `evaluate`
over 100 episodes. Runs that exist already are used again. Writes `benchmarks/results/rewards-*.json` and pictures.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EPISODES = 10  # that are demonstrated
NOVELTY = {
    "trpo": "trpo --env DeepSea --steps 100000",
    "rpg": "rpg --env DeepSea --steps 200000",
    "a3c": "a3c --env DeepSea --steps 500000",
    "snes": "snes --env DeepSea --steps 300000",
    "trpo, size 50": "trpo --env DeepSea --size 50 --steps 200000",
}
# The demonstrator's command, and that of who imitates it.
IMITATION = {
    "DeepSea": ("trpo --env DeepSea --steps 100000 --novelty 1", "trpo --env DeepSea --steps 100000"),
    "CartPole-v1": ("trpo --env CartPole-v1", "trpo --env CartPole-v1"),
    "HalfCheetah-v5": ("trpo --env HalfCheetah-v5", "trpo --env HalfCheetah-v5"),
}


def launch(*arguments: Any) -> str:
    command = [sys.executable, "-m", "launch", *map(str, arguments)]
    return subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout


def trained(run: Path, command: str, seed: int, *more: Any) -> dict[str, Any]:
    """Train, unless it has been done; the evaluation, the seconds and the curve."""
    if not (run / "policy" / "weights.safetensors").exists():
        launch(*command.split(), "--seed", seed, "--run", run, *more)
    rows = [row for row in csv.DictReader((run / "metrics.csv").open()) if row["score"] not in ("", "nan")]
    kept = rows[:: max(1, len(rows) // 100)]
    return {
        "seed": seed,
        "seconds": float(rows[-1]["seconds"]),
        "steps": int(rows[-1]["steps"]),
        "evaluation": json.loads(launch("evaluate", run, "--episodes", 100, "--seed", 1000, "--json")),
        "curve": {name: [float(row[name]) for row in kept] for name in ("steps", "score")},
    }


def novelty(runs: Path, seeds: list[int]) -> dict[str, Any]:
    results = {}
    for name, command in NOVELTY.items():
        results[name] = {
            side: [
                trained(
                    runs / f"novelty-{name.replace(', ', '-').replace(' ', '')}-{side}-{seed}",
                    command,
                    seed,
                    "--novelty",
                    weight,
                )
                for seed in seeds
            ]
            for side, weight in (("with", 1), ("without", 0))
        }
    return results


def imitation(runs: Path, seeds: list[int]) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name, (demonstrator, imitator) in IMITATION.items():
        shown = trained(runs / f"demonstrator-{name}", demonstrator, 100)
        file = runs / f"{name}.npz"
        if not file.exists():
            launch("record", runs / f"demonstrator-{name}", "--demonstrations", "--episodes", EPISODES, "--out", file)
        results[name] = {
            "demonstrator": shown,
            "with": [trained(runs / f"imitation-{name}-{seed}", imitator, seed, "--imitate", file) for seed in seeds],
            "without": [trained(runs / f"own-rewards-{name}-{seed}", imitator, seed) for seed in seeds],
        }
    return results


def plot(results: dict[str, Any], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, every = plt.subplots(1, len(results), figsize=(3.2 * len(results), 3.0), layout="constrained")
    for axes, (name, found) in zip(every, results.items(), strict=True):
        for side, colour in (("with", "tab:blue"), ("without", "tab:grey")):
            for k, run in enumerate(found[side]):
                axes.plot(run["curve"]["steps"], run["curve"]["score"], color=colour, label=None if k else side)
        if "demonstrator" in found:
            axes.axhline(
                found["demonstrator"]["evaluation"]["mean_return"], color="black", linestyle="--", linewidth=0.8
            )
        axes.set(title=name, xlabel="agent steps")
        axes.spines[["top", "right"]].set_visible(False)
    every[0].set(ylabel="score, the environment's own")
    every[0].legend(frameon=False)
    figure.savefig(out, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("novelty", "imitation"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    results = {"novelty": novelty, "imitation": imitation}[arguments.what](arguments.runs.resolve(), arguments.seeds)
    for name, found in results.items():
        for side in ("with", "without"):
            scores = [run["evaluation"]["mean_return"] for run in found[side]]
            found[f"mean_{side}"] = statistics.mean(scores)
            print(f"{name:16s} {side:8s} {scores}", [round(run["seconds"], 1) for run in found[side]], flush=True)
        if "demonstrator" in found:
            print(f"{name:16s} demonstrator {found['demonstrator']['evaluation']['mean_return']}")
    (arguments.out / f"rewards-{arguments.what}.json").write_text(json.dumps(results) + "\n")
    plot(results, arguments.out / f"rewards-{arguments.what}.png")


if __name__ == "__main__":
    main()

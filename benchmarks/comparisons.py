"""What the generative models bring to agents, against going without.

    pip install -e '.[bench,mujoco]'
    python benchmarks/comparisons.py novelty --seeds 0 1 2
    python benchmarks/comparisons.py imitation --seeds 0 1 2
    python benchmarks/comparisons.py encoder --seeds 0 1 2

`novelty`: each agent on DeepSea with and without `--novelty`, of the same settings, steps and seeds. `imitation`: TRPO
from ten recorded episodes, which never sees the environment's rewards, beside TRPO that sees nothing else, of the same
steps and seeds; and the demonstrator's own score. `encoder`: A3C on Catch with the encoder of a VAE that has seen what
random actions show, as it is and learned further, beside A3C with convolutions. Every run is a real `python -m launch`
command, scored by `evaluate` over 100 episodes. Runs that exist already are used again. Writes
`benchmarks/results/comparison-*.json` and pictures.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

COLOURS = {"with": "tab:blue", "tuned": "tab:orange", "without": "tab:grey"}
ROOT = Path(__file__).resolve().parents[1]
EPISODES = 10  # that are demonstrated
NOVELTY = {
    "trpo": "trpo --env DeepSea --steps 100000",
    "rpg": "rpg --env DeepSea --steps 200000",
    "a3c": "a3c --env DeepSea --steps 300000",
    "snes": "snes --env DeepSea --steps 300000",
    "trpo, size 50": "trpo --env DeepSea --size 50 --steps 200000",
}
# The demonstrator's command, and that of who imitates it.
IMITATION = {
    "DeepSea": ("trpo --env DeepSea --steps 100000 --novelty 1", "trpo --env DeepSea --steps 100000"),
    "CartPole-v1": ("trpo --env CartPole-v1", "trpo --env CartPole-v1"),
    "HalfCheetah-v5": ("trpo --env HalfCheetah-v5", "trpo --env HalfCheetah-v5 --steps 300000"),
}
SEEN = "vae --data env:Catch --units 200 --latents 16 --epochs 30"
ENCODER = "a3c --env Catch --steps 100000 --backbone"


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


def encoder(runs: Path, seeds: list[int]) -> dict[str, Any]:
    vae = runs / "catch-vae"
    if not (vae / "pictures" / "samples.png").exists():
        launch(*SEEN.split(), "--run", vae)
    arms = {"with": f"vae:{vae}", "tuned": f"vae-tuned:{vae}", "without": "small-cnn"}
    return {
        "Catch": {
            side: [trained(runs / f"encoder-{side}-{seed}", f"{ENCODER} {backbone}", seed) for seed in seeds]
            for side, backbone in arms.items()
        }
    }


def plot(results: dict[str, Any], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    wide = max(len(results), 1.5)
    figure, every = plt.subplots(1, len(results), figsize=(3.2 * wide, 3.0), layout="constrained", squeeze=False)
    for axes, (name, found) in zip(every[0], results.items(), strict=True):
        for side, colour in COLOURS.items():
            for k, run in enumerate(found.get(side, [])):
                axes.plot(run["curve"]["steps"], run["curve"]["score"], color=colour, label=None if k else side)
        if "demonstrator" in found:
            axes.axhline(
                found["demonstrator"]["evaluation"]["mean_return"], color="black", linestyle="--", linewidth=0.8
            )
        axes.set(title=name, xlabel="agent steps")
        axes.spines[["top", "right"]].set_visible(False)
    every[0, 0].set(ylabel="score, the environment's own")
    every[0, 0].legend(frameon=False)
    figure.savefig(out, dpi=90)


WHAT = {"novelty": novelty, "imitation": imitation, "encoder": encoder}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(WHAT))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    results = WHAT[arguments.what](arguments.runs.resolve(), arguments.seeds)
    for name, found in results.items():
        for side in filter(found.__contains__, COLOURS):
            scores = [run["evaluation"]["mean_return"] for run in found[side]]
            found[f"mean_{side}"] = statistics.mean(scores)
            print(f"{name:16s} {side:8s} {scores}", [round(run["seconds"], 1) for run in found[side]], flush=True)
        if "demonstrator" in found:
            print(f"{name:16s} demonstrator {found['demonstrator']['evaluation']['mean_return']}")
    (arguments.out / f"comparison-{arguments.what}.json").write_text(json.dumps(results) + "\n")
    plot(results, arguments.out / f"comparison-{arguments.what}.png")


if __name__ == "__main__":
    main()

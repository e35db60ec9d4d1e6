"""Learning curves of the default command: train, then evaluate, for several seeds, one after another.

    pip install -e '.[bench]'
    python benchmarks/learning.py Pong --seeds 0 1 2
    python benchmarks/learning.py CartPole-v1 --seeds 0 1 2 3 4

Writes `benchmarks/results/learning-<env>.json` (scores, steps, wall clock, curves) and a picture of the curves. Each
run is a real `python -m launch a3c --env ENV --seed S` with the tuned defaults. Runs that exist already are used again.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
POINTS = 100  # of a committed curve


def train_and_evaluate(env: str, seed: int, runs: Path, episodes: int) -> dict:
    run = runs / f"{env}-{seed}"
    launch = [sys.executable, "-m", "launch"]
    clock = run.with_suffix(".seconds")
    if not clock.exists():
        start = time.perf_counter()
        subprocess.run([*launch, "a3c", "--env", env, "--seed", str(seed), "--run", str(run)], check=True, cwd=ROOT)
        clock.write_text(str(time.perf_counter() - start))
    evaluation = subprocess.run(
        [*launch, "evaluate", str(run), "--episodes", str(episodes), "--seed", "1000", "--json"],
        check=True,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = (run / "metrics.csv").read_text().splitlines()
    columns = lines[0].split(",")
    rows = [dict(zip(columns, line.split(","), strict=True)) for line in lines[1:]]
    kept = rows[:: max(1, len(rows) // POINTS)]
    return {
        "seed": seed,
        "wall_clock_seconds": round(float(clock.read_text()), 1),
        "steps": int(rows[-1]["steps"]),
        "evaluation": json.loads(evaluation.stdout),
        "curve": {key: [float(row[key]) for row in kept] for key in ("steps", "seconds", "score")},
        "config": json.loads((run / "config.json").read_text())["config"],
    }


def plot(env: str, results: list[dict], target: float, out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    for result in results:
        minutes = [seconds / 60 for seconds in result["curve"]["seconds"]]
        axes.plot(minutes, result["curve"]["score"], label=f"seed {result['seed']}")
    axes.axhline(target, color="grey", linewidth=0.8, linestyle="--")
    axes.set(
        xlabel="minutes of wall clock on two cores", ylabel="score, last 100 training episodes", title=f"A3C, {env}"
    )
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("env")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--target", type=float, help="line in the picture")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    runs = arguments.runs.resolve()
    results = [train_and_evaluate(arguments.env, seed, runs, arguments.episodes) for seed in arguments.seeds]
    scores = [result["evaluation"]["mean_return"] for result in results]
    seconds = [result["wall_clock_seconds"] for result in results]
    summary = {
        "env": arguments.env,
        "mean_return": {"mean": statistics.mean(scores), "min": min(scores), "deviation": statistics.pstdev(scores)},
        "wall_clock_seconds": {"mean": statistics.mean(seconds), "max": max(seconds)},
        "seeds": results,
    }
    stem = f"learning-{arguments.env.lower()}"
    (arguments.out / f"{stem}.json").write_text(json.dumps(summary) + "\n")
    target = arguments.target if arguments.target is not None else {"Pong": 18.0, "CartPole-v1": 475.0}[arguments.env]
    plot(arguments.env, results, target, arguments.out / f"{stem}.png")
    for result in results:
        print(result["seed"], result["wall_clock_seconds"], result["steps"], result["evaluation"])


if __name__ == "__main__":
    main()

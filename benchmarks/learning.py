"""What the default commands learn: train, then evaluate, for several seeds, one after another.

    pip install -e '.[bench]'
    python benchmarks/learning.py pong --seeds 0 1 2
    python benchmarks/learning.py mnist-cnn --seeds 0 1 2 --data mnist.npz
    python benchmarks/learning.py --list

Writes `benchmarks/results/learning-<name>.json` (test scores, steps, wall clock, curves) and a picture of the curves.
Each run is a real `python -m launch` command with the tuned defaults. Runs that exist already are used again.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
POINTS = 100  # of a committed curve


class Experiment(NamedTuple):
    """A command, how its result is scored, and the column of metrics.csv that shows it being learned."""

    command: str
    score: str  # of `evaluate --json`
    evaluate: str
    curve: str
    target: float  # a line in the picture
    further: tuple[str, ...] = ()  # evaluations of the same run, by their flags


def _atari(game: str, target: float, agent: str = "a3c") -> Experiment:
    return Experiment(f"{agent} --env {game}", "mean_return", "--episodes 50 --seed 1000", "score", target)


def _control(env: str, target: float, agent: str = "a3c") -> Experiment:
    return Experiment(f"{agent} --env {env}", "mean_return", "--episodes 100 --seed 1000", "score", target)


def _mujoco(env: str, target: float) -> Experiment:
    """Scored without the policy's noise, as the libraries score; the target is the best of theirs."""
    played = "--episodes 100 --seed 1000"
    return Experiment(f"trpo --env {env}", "mean_return", f"{played} --deterministic", "score", target, (played,))


def _evolved(env: str, target: float, episodes: int = 100) -> Experiment:
    """Scored without noise in the actions, as it was trained."""
    played = f"--episodes {episodes} --seed 1000 --deterministic"
    return Experiment(f"snes --env {env}", "mean_return", played, "score", target)


def _memory(flags: str, score: str, target: float, episodes: int) -> Experiment:
    curve = "success" if score == "success_rate" else "score"
    return Experiment(f"rpg --env {flags}", score, f"--episodes {episodes} --seed 1000", curve, target)


def _poles(env: str) -> Experiment:
    """Trained on episodes of 1,000 steps; also played for ten times as long, with and without the policy's noise."""
    command, played = f"rpg --env {env}", "--episodes 20 --seed 1000"
    longer = f"{played} --env-option max-episode-steps=10000"
    return Experiment(command, "mean_return", played, "score", 1000.0, (longer, f"{longer} --deterministic"))


def _task(command: str, score: str, target: float) -> Experiment:
    return Experiment(command, score, "", f"validation_{score}", target)


EXPERIMENTS = {
    "pong": _atari("Pong", 18.0),
    "pong-bfloat16": _atari("Pong --precision bfloat16", 18.0),
    "pong-1-worker": _atari("Pong --workers 1", 18.0),
    "pong-8-workers": _atari("Pong --workers 8", 18.0),
    "breakout": _atari("Breakout --steps 2000000", 30.0),
    "breakout-long": _atari("Breakout", 300.0),
    "breakout-300": _atari("Breakout --target-score 300", 300.0),
    "boxing": _atari("Boxing --steps 2000000", 90.0),
    "freeway": _atari("Freeway --steps 2000000", 30.0),
    "cartpole-v1": _control("CartPole-v1", 475.0),
    "trpo-cartpole-v1": _control("CartPole-v1", 475.0, "trpo"),
    "trpo-acrobot": _control("Acrobot-v1", -85.0, "trpo"),
    "trpo-pendulum": _control("Pendulum-v1", -200.0, "trpo"),
    "trpo-cartpole-novel": _control("CartPoleNoVel-v1", 475.0, "trpo"),
    "trpo-vine": _control(
        "CartPole-v1 --sampling vine --batch-size 512 --parallel-envs 16 --steps 300000", 475.0, "trpo"
    ),
    "trpo-pong": _atari("Pong", 18.0, "trpo"),
    "trpo-halfcheetah": _mujoco("HalfCheetah-v5", 4471.0),
    "trpo-hopper": _mujoco("Hopper-v5", 3372.0),
    "trpo-walker2d": _mujoco("Walker2d-v5", 4502.0),
    "trpo-swimmer": _mujoco("Swimmer-v5", 359.0),
    "snes-cartpole-v1": _evolved("CartPole-v1", 475.0),
    "snes-swimmer": _evolved("Swimmer-v5", 340.0),
    "snes-halfcheetah": _evolved("HalfCheetah-v5", 4815.0),  # rl-zoo's ARS at 12M steps
    "snes-pong": _evolved("Pong", 0.0, 20)._replace(
        further=("--episodes 20 --seed 1000 --deterministic --env-option max-frames=108000",)  # whole games
    ),
    "tmaze-10": _memory("TMaze --corridor 10", "success_rate", 0.99, 1000),
    "tmaze-70": _memory("TMaze --corridor 70", "success_rate", 0.99, 1000),
    "tmaze-100": _memory("TMaze --corridor 100", "success_rate", 0.99, 1000),
    "recall": _memory("DelayedRecall", "success_rate", 0.99, 1000),
    "nback": _memory("NBack", "success_rate", 0.99, 1000),
    "cartpole-novel": _memory("CartPoleNoVel-v1", "mean_return", 475.0, 100),
    "pendulum-novel": _memory("PendulumNoVel-v1", "mean_return", -217.9, 100),  # rl-zoo's RecurrentPPO
    "single-pole": _poles("SinglePoleNoVel"),
    "double-pole": _poles("DoublePoleNoVel"),
    "mnist-mlp": _task("mnist --model mlp", "accuracy", 0.978),
    "mnist-cnn": _task("mnist --model cnn", "accuracy", 0.992),
    "mnist-highway": _task("mnist --model highway", "accuracy", 0.98),
    "mnist-residual": _task("mnist --model residual", "accuracy", 0.98),
    "mnist-plain": _task("mnist --model mlp --depth 20 --units 50 --epochs 30", "accuracy", 0.98),
    "mnist-highway-cnn": _task("mnist --model highway-cnn", "accuracy", 0.9955),
    "nback-rnn": _task("nback --target symbol --model rnn", "accuracy", 0.995),
    "nback-lstm": _task("nback --target symbol --model lstm", "accuracy", 0.995),
    "nback-dnc": _task("nback --target symbol --model dnc", "accuracy", 0.995),
    "nback-match": _task("nback --model lstm", "accuracy", 0.995),
    "addition": _task("addition --digits 3", "accuracy", 0.99),
    "repeat-copy-dnc": _task("repeat-copy --model dnc", "wrong_bits", 0.01),
    "vae": _task("vae", "bound", -86.76),
    "gan": _task("gan", "parzen", 225.0),
    "gan-cnn": _task("gan --model cnn", "parzen", 225.0),
    "pixelrnn-diagonal": _task("pixelrnn", "nll", 79.2),
    "pixelrnn-diagonal-long": _task("pixelrnn --epochs 10", "nll", 79.2),
    "pixelrnn-row": _task("pixelrnn --model row-lstm", "nll", 80.54),
    "pixelrnn-cnn": _task("pixelrnn --model pixelcnn", "nll", 81.3),
    "repeat-copy-lstm": _task("repeat-copy --model lstm", "wrong_bits", 0.01),
}


def train_and_evaluate(name: str, seed: int, runs: Path, more: list[str]) -> dict:
    experiment = EXPERIMENTS[name]
    run = runs / f"{name}-{seed}"
    launch = [sys.executable, "-m", "launch"]
    clock = run.with_suffix(".seconds")
    if not clock.exists():
        train = [*launch, *experiment.command.split(), *more, "--seed", str(seed), "--run", str(run)]
        start = time.perf_counter()
        subprocess.run(train, check=True, cwd=ROOT)
        clock.write_text(str(time.perf_counter() - start))
    evaluations = [
        subprocess.run(
            [*launch, "evaluate", str(run), *flags.split(), "--json"],
            check=True,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        for flags in (experiment.evaluate, *experiment.further)
    ]
    lines = (run / "metrics.csv").read_text().splitlines()
    columns = lines[0].split(",")
    rows = [dict(zip(columns, line.split(","), strict=True)) for line in lines[1:]]
    rows = [row for row in rows if row[experiment.curve] not in ("", "nan")]  # no episode yet, or not validated
    kept = rows[:: max(1, len(rows) // POINTS)]
    config = json.loads((run / "config.json").read_text())["config"]
    if "data" in config:  # wherever the file lay
        config["data"] = Path(config["data"]).name
    return {
        "seed": seed,
        "wall_clock_seconds": round(float(clock.read_text()), 1),
        "steps": int(rows[-1]["steps"]),
        **({"episodes": int(rows[-1]["episodes"])} if "episodes" in rows[-1] else {}),
        "evaluation": json.loads(evaluations[0]),
        "further": dict(zip(experiment.further, map(json.loads, evaluations[1:]), strict=True)),
        "curve": {key: [float(row[key]) for row in kept] for key in ("steps", "seconds", experiment.curve)},
        "config": config,
    }


def plot(name: str, results: list[dict], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    experiment = EXPERIMENTS[name]
    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    first = 1 if experiment.curve.startswith("validation_") else 0  # validated after one update: all else looks flat
    for result in results:
        minutes = [seconds / 60 for seconds in result["curve"]["seconds"]]
        values = result["curve"][experiment.curve]
        axes.plot(minutes[first:], values[first:], ".-" if len(values) < 20 else "-", label=f"seed {result['seed']}")
    axes.axhline(experiment.target, color="grey", linewidth=0.8, linestyle="--")
    said = "score, last 100 training episodes" if experiment.curve == "score" else experiment.curve.replace("_", " ")
    axes.set(xlabel="minutes of wall clock", ylabel=said, title=f"launch {experiment.command}")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which experiments; --list names them")
    parser.add_argument("--list", action="store_true", help="name the experiments and their commands")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", help="of image tasks, in place of MNIST's download")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    if arguments.list:
        for name, experiment in EXPERIMENTS.items():
            print(f"{name:20s} python -m launch {experiment.command}")
    if unknown := set(arguments.names) - set(EXPERIMENTS):
        parser.error(f"no experiment {', '.join(sorted(unknown))}; there are {', '.join(EXPERIMENTS)}")
    arguments.runs.mkdir(parents=True, exist_ok=True)
    runs = arguments.runs.resolve()
    for name in arguments.names:
        experiment = EXPERIMENTS[name]
        images = arguments.data and name.startswith(("mnist", "vae", "gan", "pixelrnn"))
        more = ["--data", str(Path(arguments.data).resolve())] if images else []
        results = [train_and_evaluate(name, seed, runs, more) for seed in arguments.seeds]
        scores = [result["evaluation"][experiment.score] for result in results]
        seconds = [result["wall_clock_seconds"] for result in results]
        summary = {
            "command": f"python -m launch {experiment.command}",
            experiment.score: {
                "mean": statistics.mean(scores),
                "min": min(scores),
                "max": max(scores),
                "deviation": statistics.pstdev(scores),
            },
            "wall_clock_seconds": {"mean": statistics.mean(seconds), "max": max(seconds)},
            "seeds": results,
        }
        (arguments.out / f"learning-{name}.json").write_text(json.dumps(summary) + "\n")
        plot(name, results, arguments.out / f"learning-{name}.png")
        for result in results:
            for flags, found in result["further"].items():
                print(name, result["seed"], flags, found, flush=True)
            print(name, result["seed"], result["wall_clock_seconds"], result["steps"], result["evaluation"], flush=True)


if __name__ == "__main__":
    main()

"""Policies that remember: speed, sb3-contrib's RecurrentPPO beside them, and which memory learns which task.

    pip install -e '.[bench]'
    python benchmarks/memory.py speed
    python benchmarks/memory.py rival --seeds 0 1 2 3 4
    python benchmarks/memory.py matrix --seeds 0 1 2 [--tasks TMaze ...]

Each part writes `benchmarks/results/memory-<part>.json`. Nothing else may run meanwhile.
"""

import argparse
import functools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TASK = "CartPoleNoVel-v1"
SOLVED = 475.0
COPIES = 64
BACKBONES = ("mlp", "rnn", "lstm", "dnc")
TASKS = {  # the tuned settings, and steps enough for who can learn it
    "TMaze": ["--corridor", "20", "--steps", "2000000"],
    "NBack": [],
    TASK: ["--steps", "1000000"],
}


def speed(_: argparse.Namespace) -> dict:
    """Steps per second of 64 copies with an LSTM of 64 units: acting alone, and training with the tuned settings."""
    from launch.process import start_tensorflow

    start_tensorflow()
    import numpy as np

    import agents
    import envs
    from agents.tuning import tuned
    from rlab import policies
    from rlab.policies.actions import to_environment
    from rlab.schedules import Schedule

    factory = functools.partial(envs.make, TASK)
    config = agents.RPG.Config(**(tuned("rpg", TASK)["config"] | {"episodes_per_batch": COPIES}))
    learner = agents.RPG(config, factory, "lstm").learner(Schedule(10**9))
    env, policy = factory(num_envs=COPIES, seed=0), learner.policy
    act, params = policies.compile_acting(policy), learner.parameters()
    state, (observations, _) = policy.initial_state(COPIES), env.reset()
    resets = np.ones(COPIES, np.float32)

    def steps(count: int) -> float:
        nonlocal state, observations, resets
        start = time.perf_counter()
        for t in range(count):
            actions, _, state = act(params, observations, state, resets, np.array([0, t], np.int32))
            moves = to_environment(actions.numpy(), env.single_action_space)
            observations, _, terminated, truncated, _ = env.step(moves)
            resets = (terminated | truncated).astype(np.float32)
        return count * COPIES / (time.perf_counter() - start)

    steps(100)
    acting = [steps(2000) for _ in range(5)]
    updates = learner.updates()
    for _ in range(40):  # short episodes waste the rows that wait for the longest; by now they are longer
        next(updates)
    begun, start = learner.steps, time.perf_counter()
    while time.perf_counter() - start < 30.0:
        next(updates)
    training = (learner.steps - begun) / (time.perf_counter() - start)
    return {"copies": COPIES, "parameters": policy.size, "acting": statistics.median(acting), "training": training}


def rival(arguments: argparse.Namespace) -> dict:
    """Seconds to a mean of 475 over 100 episodes, in turn: ours and RecurrentPPO's.

    Ours are those of the whole command, from the start of Python to the saved policy, which is then evaluated. Theirs
    run from the building of the model until the last 100 episodes average it in training, or to the end of the steps.
    """
    results: dict[str, list[dict]] = {"rlab": [], "recurrent_ppo": []}
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as directory:
            ours = _launched(Path(directory) / "run", ["--env", TASK, "--seed", str(seed)], 100)
        results["rlab"].append({"seed": seed, "reached": ours["mean_return"] >= SOLVED, **ours})
        print("rlab", results["rlab"][-1], flush=True)
        results["recurrent_ppo"].append(_theirs(seed))
        print("recurrent_ppo", results["recurrent_ppo"][-1], flush=True)
    medians = {name: statistics.median(run["wall_clock_seconds"] for run in runs) for name, runs in results.items()}
    return results | {"median_seconds": medians, "ratio": medians["recurrent_ppo"] / medians["rlab"]}


def _theirs(seed: int) -> dict:
    """rl-baselines3-zoo's settings for this task, hyperparams/ppo_lstm.yml; its environment is ours, one per copy."""
    import gymnasium as gym
    import numpy as np
    from sb3_contrib import RecurrentPPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    import envs  # noqa: F401  (registers the task)

    class Clock(BaseCallback):
        start, reached = time.perf_counter(), False

        def _on_step(self) -> bool:
            recent = self.model.ep_info_buffer
            if len(recent) == 100 and np.mean([episode["r"] for episode in recent]) >= SOLVED:
                self.reached = True
            return not self.reached

    env, clock = make_vec_env(lambda: gym.make(TASK), n_envs=8, seed=seed), Clock()
    model = RecurrentPPO(
        "MlpLstmPolicy",
        env,
        n_steps=32,
        batch_size=256,
        gae_lambda=0.8,
        gamma=0.98,
        n_epochs=20,
        ent_coef=0.0,
        learning_rate=lambda left: 1e-3 * left,
        clip_range=lambda left: 0.2 * left,
        seed=seed,
        device="cpu",
    )
    model.learn(100_000, callback=clock)
    seconds = time.perf_counter() - clock.start
    mean, _ = evaluate_policy(model, env, 100, deterministic=False)
    found = {"wall_clock_seconds": seconds, "steps": model.num_timesteps, "mean_return": float(mean)}
    return {"seed": seed, "reached": clock.reached} | found


def matrix(arguments: argparse.Namespace) -> dict:
    """Success or score, seconds and parameters of every memory on every task; the feed-forward row has none.

    Tasks that are not run anew keep their rows.
    """
    kept = arguments.out / "memory-matrix.json"
    table: dict[str, dict[str, list[dict]]] = json.loads(kept.read_text()) if kept.exists() else {}
    for task in arguments.tasks:
        flags, table[task] = TASKS[task], {}
        for backbone in BACKBONES:
            runs = []
            for seed in arguments.seeds:
                with tempfile.TemporaryDirectory() as directory:
                    more = ["--env", task, *flags, "--backbone", backbone, "--seed", str(seed)]
                    runs.append(_launched(Path(directory) / "run", more, 200) | {"seed": seed})
                print(task, backbone, runs[-1], flush=True)
            table[task][backbone] = runs
    return table


def _launched(run: Path, flags: list[str], episodes: int) -> dict:
    """Train by the command line with the tuned settings, and evaluate."""
    launch = [sys.executable, "-m", "launch"]
    start = time.perf_counter()
    said = subprocess.run(
        [*launch, "rpg", *flags, "--run", str(run)], check=True, cwd=ROOT, stderr=subprocess.PIPE, text=True
    ).stderr
    seconds = time.perf_counter() - start
    played = subprocess.run(
        [*launch, "evaluate", str(run), "--episodes", str(episodes), "--seed", "1000", "--json"],
        check=True,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    parameters = int(said.split(" parameters")[0].split()[-1].replace(",", ""))
    steps = int((run / "metrics.csv").read_text().splitlines()[-1].split(",")[0])
    return {"wall_clock_seconds": seconds, "steps": steps, "parameters": parameters, **json.loads(played)}


PARTS = {"speed": speed, "rival": rival, "matrix": matrix}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="of the matrix")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    result = PARTS[arguments.part](arguments)
    (arguments.out / f"memory-{arguments.part}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result if arguments.part == "speed" else result.get("median_seconds", {}), indent=1))


if __name__ == "__main__":
    main()

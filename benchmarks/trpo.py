"""TRPO beside sb3-contrib's: one update, and whole training, on CartPole-v1 with sb3-contrib's default settings.

    pip install -e '.[bench]'
    python benchmarks/trpo.py

Batches of 2,048 steps, MLP of 64 × 64, 15 iterations of conjugate gradient, damping 0.1, 10 passes of the critic in
minibatches of 128; both libraries with 8 environments and with 32, sb3-contrib with PyTorch's own number of threads and
with one, the faster of which counts. `rlab_lstm` has a memory and 64 environments. The sides take turns, each in a
process of its own; `rlab` is one process, `rlab_command` the command as it is typed. An update is `TRPO.train()` there;
here it is all that is not playing, the advantages too, which sb3-contrib computes while it plays. Writes
`benchmarks/results/trpo.json`. Nothing else may run meanwhile.
"""

import argparse
import functools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENV, COPIES, BATCH = "CartPole-v1", 8, 2048
WARM, COUNTED = 10, 40  # updates


def ours(backbone: str | None = None, env: str = ENV, copies: int = COPIES) -> dict:
    from launch.process import start_tensorflow

    start_tensorflow()
    import agents
    import envs
    from rlab.schedules import Schedule

    config = agents.TRPO.Config(batch_size=BATCH, parallel_envs=copies, max_kl=0.01, cg_iterations=15)
    learner = agents.TRPO(config, functools.partial(envs.make, env), backbone).learner(Schedule(10**9))
    collect, playing = learner.collector.collect, 0.0

    def timed(params):
        nonlocal playing
        start = time.perf_counter()
        result = collect(params)
        playing += time.perf_counter() - start
        return result

    learner.collector.collect = timed
    updates = learner.updates()
    for _ in range(WARM):
        next(updates)
    start, playing = time.perf_counter(), 0.0
    for _ in range(COUNTED):
        next(updates)
    total = time.perf_counter() - start
    return {"update_ms": 1e3 * (total - playing) / COUNTED, "steps_per_second": BATCH * COUNTED / total}


def command(copies: int = COPIES) -> dict:
    """Training as it is typed, with a process to each core."""
    from throughput import measured

    flags = ("--parallel-envs", str(copies), "--batch-size", str(BATCH), "--max-kl", "0.01", "--cg-iterations", "15")
    return measured("trpo", "--env", ENV, "--steps", "500000000", "--target-score", "inf", *flags)


def theirs(copies: int = COPIES, threads: int = 0) -> dict:
    sys.modules["triton"] = None  # type: ignore[assignment]  # its LLVM and TensorFlow's cannot share a process
    import torch
    from sb3_contrib import TRPO
    from stable_baselines3.common.env_util import make_vec_env

    if threads:
        torch.set_num_threads(threads)

    class Timed(TRPO):
        seconds, updates, begun = 0.0, 0, 0.0

        def train(self) -> None:
            start = time.perf_counter()
            super().train()
            self.seconds += time.perf_counter() - start
            self.updates += 1
            if self.updates == WARM:
                self.seconds, self.begun = 0.0, time.perf_counter()

    model = Timed("MlpPolicy", make_vec_env(ENV, n_envs=copies, seed=0), n_steps=BATCH // copies, device="cpu", seed=0)
    model.learn(BATCH * (WARM + COUNTED))
    total = time.perf_counter() - model.begun
    return {"update_ms": 1e3 * model.seconds / COUNTED, "steps_per_second": BATCH * COUNTED / total}


SIDES = {
    "rlab": ours,
    "rlab_command": command,
    "rlab_command_32": functools.partial(command, 32),
    "sb3_contrib": theirs,
    "sb3_contrib_one_thread": functools.partial(theirs, threads=1),
    "rlab_32": functools.partial(ours, copies=32),
    "sb3_contrib_32": functools.partial(theirs, 32),
    "sb3_contrib_32_one_thread": functools.partial(theirs, 32, 1),
    "rlab_lstm": functools.partial(ours, "lstm", "CartPoleNoVel-v1", 64),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help="measure one library in this process and print it")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side]()))
        return
    found: dict[str, list[dict]] = {side: [] for side in SIDES}
    for _ in range(arguments.rounds):
        for side, rounds in found.items():
            command = [sys.executable, __file__, "--side", side]
            output = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
            rounds.append(json.loads(output.splitlines()[-1]))
            print(side, rounds[-1], flush=True)
    medians = {
        side: {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
        for side, rounds in found.items()
    }
    ratios = {"lstm_update": medians["rlab_lstm"]["update_ms"] / medians["rlab"]["update_ms"]}
    for copies in ("", "_32"):
        mine, rivals = medians[f"rlab{copies}"], [medians[f"sb3_contrib{copies}{one}"] for one in ("", "_one_thread")]
        ratios |= {
            f"update{copies}": min(rival["update_ms"] for rival in rivals) / mine["update_ms"],
            f"training{copies}": mine["steps_per_second"] / max(rival["steps_per_second"] for rival in rivals),
            f"training{copies}_as_typed": medians[f"rlab_command{copies}"]["steps_per_second"]
            / max(rival["steps_per_second"] for rival in rivals),
        }
    result = {"medians": medians, "ratios": ratios, "rounds": found}
    (arguments.out / "trpo.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(ratios, indent=1))


if __name__ == "__main__":
    main()

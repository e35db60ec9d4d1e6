"""How long one acting step takes, by XLA and as a graph, for each network: on one core, and on any.

    python benchmarks/acting.py --out benchmarks/results/acting.json

Microseconds, medians of whole calls with their observations as NumPy arrays, and the seconds until the first. Nothing
else may run meanwhile.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CASES = (
    ("CartPole-v1", "mlp", 16),
    ("CartPole-v1", "rnn", 16),
    ("CartPole-v1", "lstm", 16),
    ("CartPole-v1", "highway", 16),
    ("CartPole-v1", "dnc", 16),
    ("CartPole-v1", "seq2seq", 16),
    ("Pong", "cnn", 16),
    ("Pong", "nature", 16),
    ("Pong", "lstm", 16),
)


def measure(one_core: bool) -> list[dict]:
    if one_core:
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    from launch.process import start_tensorflow

    start_tensorflow()
    import numpy as np
    import tensorflow as tf

    import envs
    from rlab import policies
    from rlab.ops.compiling import COMPILERS, Formulation

    found = []
    for name, backbone, rows in CASES:
        env = envs.make(name, num_envs=rows, seed=0)
        policy = policies.build(env.single_observation_space, env.single_action_space, backbone)
        params, state = tf.constant(policy.initial_parameters(0)), policy.initial_state(rows)
        seen, resets = env.reset()[0], np.zeros(rows, np.float32)
        one: dict = {"env": name, "backbone": backbone, "rows": rows}
        for compiler in COMPILERS:
            start, times = time.perf_counter(), []
            act = policies.compile_acting(policy, formulation=Formulation(compiler))
            for turn in range(1000 if name != "Pong" else 200):
                begun = time.perf_counter()
                actions, values, _ = act(params, seen, state, resets, np.array([0, turn], np.int32))
                actions.numpy(), values.numpy()
                times.append(time.perf_counter() - begun)
                if not turn:
                    one[f"{compiler}_first_s"] = time.perf_counter() - start
            one[f"{compiler}_us"] = 1e6 * statistics.median(times)
        found.append(one)
        env.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--side", choices=("one_core", "free"), help="measure one way in this process and print it")
    given = parser.parse_args()
    if given.side:
        print(json.dumps(measure(given.side == "one_core")))
        return
    found = {}
    for side in ("one_core", "free"):
        command = [sys.executable, __file__, "--side", side]
        done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        found[side] = json.loads(done.stdout.splitlines()[-1])
        for one in found[side]:
            print(side, one, flush=True)
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

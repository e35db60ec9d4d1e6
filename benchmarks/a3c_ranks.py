"""What A3C pays for ranks: a remote worker's round trip, and two ranks of one worker beside one rank of two.

    python benchmarks/a3c_ranks.py

A round trip is a push and the pull that comes back with it, of as many parameters as the default policies of Pong and
CartPole have, while nothing else is asked of rank 0. Steps per second are those of the default commands, after the
first quarter of the rows. Writes `benchmarks/results/a3c-ranks.json`. Where the machine does other work, rounds differ.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"Pong": 151_639, "CartPole-v1": 4_675}
STEPS = {"Pong": 60_000, "CartPole-v1": 150_000}
TRIPS = 1000
ROOT_USER = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # does nothing for anyone else


def trips(size: int) -> None:
    """Run by each of two ranks; the second prints its milliseconds."""
    import numpy as np

    from rlab.parallel import remote, shared
    from rlab.parallel.comm import world
    from rlab.schedules import Schedule

    comm = world()
    parameters = shared.SharedParameters(np.zeros(size), decay=0.99, epsilon=1e-5)
    exchange = shared.Exchange(parameters, Schedule(TRIPS))
    side = (remote.Guest if comm.rank else remote.Host)(exchange, comm, 1)
    taken, gradient = [], np.ones(size, np.float32)

    def work() -> None:
        line = side.connect(0)
        snapshot = line.pull()
        while not snapshot.done:
            start = time.perf_counter()
            line.push(gradient, shared.Work(1e-3, snapshot.updates, 1, {"loss": 0.0}, []))
            snapshot = line.pull()
            taken.append(time.perf_counter() - start)

    with side.running([threading.Thread(target=work)] * comm.rank):
        while not side.over():
            side.hear(0.1)
    if comm.rank:
        print(1e3 * statistics.median(taken))


def run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | ROOT_USER, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def speed(env: str, ranks: int, workers: int) -> float:
    with tempfile.TemporaryDirectory() as directory:
        flags = ["--steps", str(STEPS[env]), "--target-score", "inf", "--run", f"{directory}/run"]
        train = [sys.executable, "-m", "launch", "a3c", "--env", env, "--workers", str(workers), *flags]
        run(["mpirun", "-n", str(ranks), "--bind-to", "none", *train])
        rows = list(csv.DictReader(Path(directory, "run", "metrics.csv").read_text().splitlines()))
    first, last = rows[len(rows) // 4], rows[-1]
    return (float(last["steps"]) - float(first["steps"])) / (float(last["seconds"]) - float(first["seconds"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--trips", type=int, help="only make round trips of so many parameters, as one of two ranks")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "a3c-ranks.json")
    arguments = parser.parse_args()
    if arguments.trips:
        return trips(arguments.trips)
    found: dict = {}
    for env, size in SIZES.items():
        command = ["mpirun", "-n", "2", "--bind-to", "none", sys.executable, __file__, "--trips", str(size)]
        found[env] = {
            "parameters": size,
            "round_trip_ms": [float(run(command)) for _ in range(arguments.rounds)],
            "steps_per_second": {"two_ranks_of_one_worker": [], "one_rank_of_two_workers": []},
        }
        for _ in range(arguments.rounds):
            for name, ranks, workers in (("two_ranks_of_one_worker", 2, 1), ("one_rank_of_two_workers", 1, 2)):
                found[env]["steps_per_second"][name].append(speed(env, ranks, workers))
        print(env, found[env], flush=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    return None


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()

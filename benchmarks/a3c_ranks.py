"""What a worker of another machine pays: its round trip to rank 0, between two ranks that share no memory.

    python benchmarks/a3c_ranks.py

A round trip is a push and the pull that comes back with it, of as many parameters as the default policies of Pong and
CartPole have, while nothing else is asked of rank 0. Writes `benchmarks/results/a3c-ranks.json`. What ranks of one
machine make is in `benchmarks/scaling.py`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"Pong": 677_943, "CartPole-v1": 4_675}
TRIPS = 1000
ROOT_USER = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # does nothing for anyone else


def trips(size: int) -> None:
    """Run by each of two ranks; the second prints its milliseconds."""
    import numpy as np

    from rlab.parallel import remote, shared
    from rlab.parallel.comm import world
    from rlab.schedules import Schedule

    remote.common = lambda comm, size: (None, [False] * comm.size)  # as of ranks on several machines
    comm = world()
    parameters = shared.SharedParameters(np.zeros(size), decay=0.99, epsilon=1e-5)
    exchange = shared.LocalParameters(parameters, Schedule(TRIPS))
    side = (remote.RankClient if comm.rank else remote.ParameterServer)(exchange, comm, [0, 1])
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
        trips_ms = [float(run(command)) for _ in range(arguments.rounds)]
        found[env] = {"parameters": size, "round_trip_ms": trips_ms}
        print(env, found[env], flush=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    return None


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()

"""How A3C on Pong goes with its workers: threads of one process, processes of one command, ranks of mpirun.

    pip install -e '.[bench]'
    python benchmarks/scaling.py --out benchmarks/results/scaling.json [--before TREE]

For each number of workers: steps per second, cores busy, staleness and private memory of whole commands, with the
paper's network, K 16, T 5 (`benchmarks/throughput.py`); and for threads, by py-spy, the share of time in which some
thread holds Python's lock. `--before TREE` takes the command of another checkout along, where workers are threads.
Nothing else may run meanwhile.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from throughput import PAPER, ROOT, command

WORKERS = (1, 2, 4, 8, 16)
SPY_SECONDS, RATE = 15, 100


def lock_share(workers: int) -> float:
    """The share of time in which some thread of a process with so many workers holds the interpreter lock."""
    with tempfile.TemporaryDirectory() as directory:
        words = [sys.executable, "-m", "launch", "a3c", "--env", "Pong", "--steps", "100000000", *PAPER]
        words += ["--workers", str(workers), "--processes", "1", "--run", str(Path(directory) / "run")]
        samples = Path(directory) / "samples.txt"
        with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
            time.sleep(20)
            spy = [
                "py-spy",
                "record",
                "--gil",
                "-f",
                "raw",
                "-r",
                str(RATE),
                "-d",
                str(SPY_SECONDS),
                "-o",
                str(samples),
            ]
            subprocess.run([*spy, "-p", str(process.pid)], check=True, capture_output=True)
            process.terminate()
        held = sum(int(line.rsplit(" ", 1)[1]) for line in samples.read_text().splitlines())
    return held / (SPY_SECONDS * RATE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "scaling.json")
    parser.add_argument("--before", type=Path, help="another checkout, whose command runs too")
    arguments = parser.parse_args()
    table: dict[str, dict[int, dict[str, float]]] = {}

    def measure(kind: str, workers: int, *flags: str, **more) -> None:
        table.setdefault(kind, {})[workers] = command(*flags, **more)
        print(kind, workers, table[kind][workers], flush=True)

    for workers in WORKERS:
        number = str(workers)
        measure("as typed", workers, "--workers", number)
        measure("threads", workers, "--workers", number, "--processes", "1")
        if workers > len(os.sched_getaffinity(0)):  # else they are what is typed
            measure("processes", workers, "--workers", number, "--processes", number)
        if 1 < workers <= 8:
            measure("ranks", workers, "--workers", "1", mpirun=workers)
        if arguments.before:
            measure("before", workers, "--workers", number, tree=arguments.before.resolve())
    result = {
        "cores": len(os.sched_getaffinity(0)),
        "table": table,
        "lock_held_share_of_threads": {workers: lock_share(workers) for workers in (1, 4)},
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["lock_held_share_of_threads"]))


if __name__ == "__main__":
    main()

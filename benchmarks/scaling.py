"""What a worker costs: resident memory, and time under Python's interpreter lock. Where many workers would stall.

    pip install -e '.[bench]'
    python benchmarks/scaling.py --out benchmarks/results/scaling.json

Trains A3C on Pong with 1, 2 and 4 workers, and samples the process from outside: resident memory with psutil, and with
py-spy the fraction of time in which some thread holds the lock. One worker that holds it for a share g of its time lets
at most about 1/g workers run without waiting for it, however many cores there are.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
WARM_UP, SECONDS, RATE = 20, 20, 100


def observe(workers: int, flags: list[str], directory: Path) -> dict:
    command = [sys.executable, "-m", "launch", "a3c", "--env", "Pong", "--steps", "100000000"]
    command += ["--workers", str(workers), "--run", str(directory / f"run-{workers}"), *flags]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        time.sleep(WARM_UP)
        samples = directory / "samples.txt"
        spy = ["py-spy", "record", "--gil", "-f", "raw", "-r", str(RATE), "-d", str(SECONDS), "-o", str(samples)]
        subprocess.run([*spy, "-p", str(process.pid)], check=True, capture_output=True)
        held = sum(int(line.rsplit(" ", 1)[1]) for line in samples.read_text().splitlines())
        memory = psutil.Process(process.pid).memory_info().rss
    finally:
        process.terminate()
        process.wait()
    rows = (directory / f"run-{workers}" / "metrics.csv").read_text().splitlines()
    speed = float(rows[-1].split(",")[rows[0].split(",").index("steps_per_second")])
    return {
        "workers": workers,
        "resident_mib": round(memory / 2**20),
        "lock_held_share": held / (SECONDS * RATE),
        "steps_per_second": speed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "scaling.json")
    arguments = parser.parse_args()
    paper = ["--backbone", "cnn", "--frame-size", "84", "--envs-per-worker", "16", "--rollout-length", "5"]
    result = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, flags in (("small_network_8_envs", ["--envs-per-worker", "8"]), ("paper_network_16_envs", paper)):
            folder = Path(directory) / name
            folder.mkdir()
            rows = [observe(workers, flags, folder) for workers in (1, 2, 4)]
            result[name] = {
                "measured": rows,
                "resident_mib_per_worker": (rows[2]["resident_mib"] - rows[0]["resident_mib"]) / 3,
                "workers_that_fill_the_lock": 1.0 / rows[0]["lock_held_share"],
            }
            print(name, json.dumps(result[name]), flush=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

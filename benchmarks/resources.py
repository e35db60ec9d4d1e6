"""Seconds to the first update, and resident memory over a million steps, of the command line with 2 × 16 environments.

    python benchmarks/resources.py

Starts `python -m launch a3c --env Pong` with the paper's network on 84×84 frames, watches the run's metrics and the
memory of its process, and writes `benchmarks/results/resources.json`. Linux only: memory is read from /proc.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INTERVAL = 10.0  # seconds between two readings of the memory
FLAGS = ["--env", "Pong", "--workers", "2", "--envs-per-worker", "16", "--backbone", "cnn", "--frame-size", "84"]


def resident_mib(pid: int) -> float:
    """Resident memory of a process, MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def steps_made(run: Path) -> int:
    """Agent steps by the last whole row of the run's metrics, 0 before the first."""
    try:
        rows = (run / "metrics.csv").read_text().split("\n")[1:-1]
    except FileNotFoundError:
        return 0
    return int(rows[-1].split(",")[0]) if rows else 0


def measure(steps: int, run: Path) -> dict:
    command = [sys.executable, "-m", "launch", "a3c", *FLAGS, "--steps", str(steps), "--run", str(run)]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    while not steps_made(run):
        time.sleep(0.1)
        if process.poll() is not None:
            raise SystemExit("the run ended before its first update")
    first = time.perf_counter() - start
    readings = []
    while process.poll() is None:
        readings.append((steps_made(run), round(resident_mib(process.pid), 1)))
        time.sleep(INTERVAL)
    memory = [mib for _, mib in readings[:-1]]  # the process may have been ending at the last
    late = memory[len(memory) // 4 :]
    return {
        "command": ["launch", "a3c", *FLAGS, "--steps", str(steps)],
        "first_update_seconds": round(first, 1),
        "resident_mib": {"max": max(memory), "first_of_last_three_quarters": late[0], "last": late[-1]},
        "readings": {"steps": [n for n, _ in readings], "resident_mib": [mib for _, mib in readings]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_200_000)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "resources.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        result = measure(arguments.steps, Path(directory) / "run")
    arguments.out.write_text(json.dumps(result) + "\n")
    print(json.dumps({key: result[key] for key in ("first_update_seconds", "resident_mib")}, indent=2))


if __name__ == "__main__":
    main()

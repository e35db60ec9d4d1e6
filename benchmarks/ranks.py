"""What a second rank brings to TRPO on HalfCheetah, with the same total batch.

    pip install -e '.[bench]'
    python benchmarks/ranks.py

Trains the default command under `mpirun -n 1` and `-n 2`, each rank bound to one core: with 16 environments in all;
with 32, of which two ranks have 16 each; and with a batch and a number of environments four times as large. Steps per
second after the first batches, in which all is compiled. `apart` are two single ranks side by side that do not know of
each other: no division of the work can be faster. Writes
`benchmarks/results/ranks.json`. Nothing else may run meanwhile.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BATCHES, WARM = 60, 15
SIZES = {
    "default": ["--batch-size", "2048"],
    "32 environments": ["--batch-size", "2048", "--parallel-envs", "32"],
    "larger": ["--batch-size", "8192", "--parallel-envs", "64"],
}


def start(ranks: int, size: str, run: Path, core: int | None = None) -> subprocess.Popen:
    flags = [*SIZES[size], "--steps", str(BATCHES * int(SIZES[size][1])), "--run", str(run)]
    train = [sys.executable, "-m", "launch", "trpo", "--env", "HalfCheetah-v5", *flags]
    pinned = ["taskset", "-c", str(core), *train] if core is not None else ["mpirun", "-n", str(ranks), *train]
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # does nothing for anyone else
    return subprocess.Popen(pinned, cwd=ROOT, stderr=subprocess.DEVNULL, env=os.environ | root)


def speed(process: subprocess.Popen, run: Path) -> float:
    if process.wait():
        raise SystemExit(f"training ended with status {process.returncode}")
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    first, last = rows[WARM], rows[-1]
    return (float(last["steps"]) - float(first["steps"])) / (float(last["seconds"]) - float(first["seconds"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = {}
    for size in SIZES:
        speeds = found[size] = {"one": [], "two": [], "apart": []}
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory() as directory:
                runs = [Path(directory) / name for name in ("one", "two", "left", "right")]
                speeds["one"].append(speed(start(1, size, runs[0]), runs[0]))
                speeds["two"].append(speed(start(2, size, runs[1]), runs[1]))
                both = [start(1, size, run, core) for core, run in enumerate(runs[2:])]
                speeds["apart"].append(sum(speed(*one) for one in zip(both, runs[2:], strict=True)))
        print(size, speeds, flush=True)
    ratios = {
        size: {name: max(speeds[name]) / max(speeds["one"]) for name in ("two", "apart")}
        for size, speeds in found.items()
    }
    (arguments.out / "ranks.json").write_text(
        json.dumps({"ratios": ratios, "steps_per_second": found}, indent=1) + "\n"
    )
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()

"""What a second rank brings to TRPO and SNES on HalfCheetah, with the same total batch or population.

    pip install -e '.[bench]'
    python benchmarks/ranks.py

Trains under `mpirun -n 1` and `-n 2`, each rank bound to one core. TRPO with 16 environments in all; with 32, of which
two ranks have 16 each; and with a batch and a number of environments four times as large. SNES with its settings for
HalfCheetah. Steps per second after the first updates, in which all is compiled. `apart` are two single ranks side by
side that do not know of each other: no division of the work can be faster. Writes
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
TRPO = ["trpo", "--env", "HalfCheetah-v5"]
KINDS = {  # command, steps to an update, updates, updates at the beginning that do not count
    "trpo": (TRPO, 2048, 60, 15),
    "trpo, 32 environments": ([*TRPO, "--parallel-envs", "32"], 2048, 60, 15),
    "trpo, larger batch": ([*TRPO, "--batch-size", "8192", "--parallel-envs", "64"], 8192, 60, 15),
    "snes": (["snes", "--env", "HalfCheetah-v5"], 64_000, 10, 2),
}


def start(ranks: int, kind: str, run: Path, core: int | None = None) -> subprocess.Popen:
    command, steps, updates, _ = KINDS[kind]
    train = [sys.executable, "-m", "launch", *command, "--steps", str(steps * updates), "--run", str(run)]
    pinned = ["taskset", "-c", str(core), *train] if core is not None else ["mpirun", "-n", str(ranks), *train]
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # does nothing for anyone else
    return subprocess.Popen(pinned, cwd=ROOT, stderr=subprocess.DEVNULL, env=os.environ | root)


def speed(process: subprocess.Popen, kind: str, run: Path) -> float:
    if process.wait():
        raise SystemExit(f"training ended with status {process.returncode}")
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    first, last = rows[KINDS[kind][-1]], rows[-1]
    return (float(last["steps"]) - float(first["steps"])) / (float(last["seconds"]) - float(first["seconds"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)}; all without")
    arguments = parser.parse_args()
    out = arguments.out / "ranks.json"
    found: dict[str, dict[str, list[float]]] = json.loads(out.read_text())["steps_per_second"] if out.exists() else {}
    for kind in arguments.kinds or KINDS:
        speeds = found[kind] = {"one": [], "two": [], "apart": []}
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory() as directory:
                runs = [Path(directory) / name for name in ("one", "two", "left", "right")]
                speeds["one"].append(speed(start(1, kind, runs[0]), kind, runs[0]))
                speeds["two"].append(speed(start(2, kind, runs[1]), kind, runs[1]))
                both = [start(1, kind, run, core) for core, run in enumerate(runs[2:])]
                speeds["apart"].append(sum(speed(one, kind, run) for one, run in zip(both, runs[2:], strict=True)))
        print(kind, speeds, flush=True)
    ratios = {
        kind: {name: max(speeds[name]) / max(speeds["one"]) for name in ("two", "apart")}
        for kind, speeds in found.items()
    }
    out.write_text(json.dumps({"ratios": ratios, "steps_per_second": found}, indent=1) + "\n")
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()

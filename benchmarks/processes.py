"""What the processes of a command bring each agent: steps per second and cores busy, as typed and in one process.

    pip install -e '.[bench,mujoco]'
    python benchmarks/processes.py --out benchmarks/results/processes.json [--before TREE]

Each command runs as it is typed, and with one process and one share, in turn. `--before TREE` takes the commands of
another checkout along, as typed. Nothing else may run meanwhile.
"""

import argparse
import json
import os
import statistics
from pathlib import Path

from throughput import measured

COMMANDS = (
    "trpo --env HalfCheetah-v5",
    "trpo --env CartPole-v1",
    "trpo --env CartPoleNoVel-v1",
    "trpo --env Pong",
    "rpg --env TMaze",
    "rpg --env CartPole-v1",
    "rpg --env CartPoleNoVel-v1",
    "snes --env CartPole-v1",
    "snes --env CartPole-v1 --group 64",
    "snes --env HalfCheetah-v5",
    "snes --env Pong",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="", help="commands that have this in them")
    given = parser.parse_args()
    found: dict[str, dict[str, dict[str, float]]] = {}
    for command in [command for command in COMMANDS if given.only in command]:
        words = [*command.split(), "--steps", "500000000", "--target-score", "inf"]
        alone = ["--processes", "1", *([] if command.startswith("snes") else ["--shares", "1"])]
        ways = {"as typed": (words, {}), "one process": ([*words, *alone], {})}
        if given.before:
            ways["before"] = (words, {"tree": given.before.resolve()})
        rounds = [{way: measured(*typed, **more) for way, (typed, more) in ways.items()} for _ in range(given.rounds)]
        # Rows come every ten seconds here, so that the time to the first says nothing.
        kept = ("steps_per_second", "cores_busy", "private_mib")
        found[command] = {
            way: {key: statistics.median(one[way][key] for one in rounds) for key in kept} for way in ways
        }
        for way, numbers in found[command].items():
            print(
                f"{command:30} {way:12} {numbers['steps_per_second']:9,.0f} steps/s {numbers['cores_busy']:.2f} busy",
                flush=True,
            )
    if given.out:
        given.out.write_text(json.dumps({"cores": len(os.sched_getaffinity(0)), "commands": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()

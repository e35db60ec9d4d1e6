"""SNES beside EvoTorch's on CartPole-v1, and policies of images in groups beside one after another.

    pip install -e '.[bench]'
    python benchmarks/evolution.py rival
    python benchmarks/evolution.py pong

`rival`: population 256, an MLP of 64×64 tanh units, whole generations (sampling, episodes, update) from new policies
on; environment steps a second in the first minute after the first generation. EvoTorch has three ways to play: one
environment (`GymNE`), the same with two actors, and a vector environment (`VecGymNE`); the best of them counts.
`pong`: generations of 32 members, `small-cnn`, episodes of 100 steps, in groups of 16 and in groups of one member.
Writes `benchmarks/results/evolution-*.json`. Nothing else may run meanwhile.
"""

import argparse
import functools
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
POPULATION, SECONDS = 256, 60.0
NETWORK = "Linear(obs_length, 64) >> Tanh() >> Linear(64, 64) >> Tanh() >> Linear(64, act_length)"
RIVALS = ("GymNE", "GymNE, 2 actors", "VecGymNE")


def evotorch(kind: str) -> float:
    from evotorch.algorithms import SNES
    from evotorch.neuroevolution import GymNE, VecGymNE

    if kind == "VecGymNE":
        problem = VecGymNE("CartPole-v1", NETWORK)
    else:
        problem = GymNE("CartPole-v1", NETWORK, num_actors=2 if "actors" in kind else None)
    searcher = SNES(problem, stdev_init=0.1, popsize=POPULATION)
    searcher.step()
    first, start = int(searcher.status["total_interaction_count"]), time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        searcher.step()
    return (int(searcher.status["total_interaction_count"]) - first) / (time.perf_counter() - start)


def rlab(group: int, form: str) -> float:
    import agents
    import envs
    from agents import snes

    config = snes.Config(population=POPULATION, group=group, form=form)
    if form == "full":
        config = snes.Config(population=POPULATION, group=group, form=form, utilities="nes", learning_rate=1.0)
    return _speed(agents.SNES(config, functools.partial(envs.make, "CartPole-v1")))


def pong(group: int) -> float:
    import agents
    import envs
    from agents import snes

    make = functools.partial(envs.make, "Pong", frame_size=42, max_frames=400)
    agent = agents.SNES(snes.Config(population=32, group=group, mirrored=group > 1), make, "small-cnn")
    return _speed(agent)


def _speed(agent: object) -> float:
    """Steps a second of whole generations, after the first."""
    from agents import snes
    from rlab.schedules import Schedule

    learner = snes.Learner(agent, Schedule(10**9))
    updates = learner.updates()
    next(updates)
    first, start = learner.steps, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        next(updates)
    return (learner.steps - first) / (time.perf_counter() - start)


MEASURES = {
    **{f"EvoTorch {kind}": functools.partial(evotorch, kind) for kind in RIVALS},
    **{
        f"rlab, groups of {g}, {f}": functools.partial(rlab, g, f) for g, f in itertools.product((64, 256), ("simple",))
    },
    "rlab, groups of 256, full": functools.partial(rlab, 256, "full"),
    "Pong, groups of 16": functools.partial(pong, 16),
    "Pong, one by one": functools.partial(pong, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rival", "pong"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # in a process of its own
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    if arguments.one:
        print(MEASURES[arguments.one]())
        return
    names = [name for name in MEASURES if name.startswith("Pong") == (arguments.what == "pong")]
    found: dict[str, list[float]] = {name: [] for name in names}
    for _, name in itertools.product(range(arguments.rounds), names):
        command = [sys.executable, __file__, arguments.what, "--one", name]
        done = subprocess.run(
            command, cwd=ROOT, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        found[name].append(round(float(done.stdout.split()[-1]), 1))
        print(name, found[name][-1], flush=True)
    best = {name: max(speeds) for name, speeds in found.items()}
    theirs = max(speed for name, speed in best.items() if name.startswith(("EvoTorch", "Pong, one")))
    ratios = {name: round(speed / theirs, 2) for name, speed in best.items()}
    result = {"steps_per_second": found, "ratios": ratios}
    (arguments.out / f"evolution-{arguments.what}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()

"""SNES beside EvoTorch's on CartPole-v1, policies of images in groups beside one by one, and a model of many ranks.

    pip install -e '.[bench]'
    python benchmarks/evolution.py rival
    python benchmarks/evolution.py pong
    python benchmarks/evolution.py scaling

`rival`: population 256, an MLP of 64×64 tanh units, whole generations (sampling, episodes, update) from new policies
on: environment steps a second in the first minute after the first generation, and when a generation's mean return first
was 475, if it was. EvoTorch has three ways to play: one environment (`GymNE`), the same with two actors, and a vector
environment (`VecGymNE`); the best of them counts. Ours has one process, or two ranks as EvoTorch has two actors.
`pong`: generations of 32 members, `small-cnn`, episodes of 400 steps, in groups of 16 (emulated in two threads, or on
two ranks) and in groups of one member.
`scaling`: what a generation costs on one core, by parts, and from them a model of its time on R ranks, up to 1,440.
Writes `benchmarks/results/evolution-*.json`. Nothing else may run meanwhile.
"""

import argparse
import functools
import itertools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import agents

ROOT = Path(__file__).resolve().parents[1]
POPULATION, SECONDS = 256, 60.0
NETWORK = "Linear(obs_length, 64) >> Tanh() >> Linear(64, 64) >> Tanh() >> Linear(64, act_length)"
RIVALS = ("GymNE", "GymNE, 2 actors", "VecGymNE")


def evotorch(kind: str) -> dict:
    from evotorch.algorithms import SNES
    from evotorch.neuroevolution import GymNE, VecGymNE

    if kind == "VecGymNE":
        problem = VecGymNE("CartPole-v1", NETWORK)
    else:
        problem = GymNE("CartPole-v1", NETWORK, num_actors=2 if "actors" in kind else None)
    searcher = SNES(problem, stdev_init=0.1, popsize=POPULATION)

    def play() -> tuple[int, float]:
        searcher.step()
        return int(searcher.status["total_interaction_count"]), float(searcher.status["mean_eval"])

    return _speed(play)


def rlab(group: int, form: str) -> dict:
    import agents
    import envs

    config = agents.SNES.Config(population=POPULATION, group=group, form=form, learning_rate=0.03)
    if form == "full":
        config = agents.SNES.Config(population=POPULATION, group=group, form=form, utilities="nes", learning_rate=1.0)
    return _evolve(agents.SNES(config, functools.partial(envs.make, "CartPole-v1")))


def pong(group: int, threads: int = 2) -> dict:
    import agents
    import envs

    make = functools.partial(envs.make, "Pong", frame_size=42, max_frames=1600, threads=threads)
    agent = agents.SNES(agents.SNES.Config(population=32, group=group, mirrored=group > 1), make, "small-cnn")
    return _evolve(agent)


GROUP, RANKS = 16, (1, 2, 4, 16, 64, 256, 1440)
# Assumed of a cluster's network, in seconds: 20 µs to a hop of a tree, 1 Gbit/s to a rank.
HOP, BYTE = 20e-6, 8e-9
TASKS: dict[str, dict] = {"HalfCheetah-v5": {}, "Pong": {"frame_size": 42, "max_frames": 1000}}


def costs(env: str) -> dict[str, float]:
    """Seconds: of a group's episodes with its noise, and of the update for each million of numbers of noise."""
    import tensorflow as tf

    import agents
    import envs
    from rlab.schedules import Schedule

    make = functools.partial(envs.make, env, **TASKS[env])
    backbone = "small-cnn" if env == "Pong" else None
    config = agents.SNES.Config(population=2 * GROUP, group=GROUP, normalize_observations=env != "Pong")
    learner = agents.SNES(config, make, backbone).learner(Schedule(10**9))
    updates = learner.updates()
    next(updates)
    start = time.perf_counter()
    for _ in range(2):
        next(updates)
    group = (time.perf_counter() - start) / 4
    found = {"parameters": learner.policy.size, "group": group}
    for population in (256, 1024):
        wide = agents.SNES(agents.SNES.Config(population=population, group=GROUP), make, backbone).learner(Schedule(1))
        told = (wide.noise_seed, wide.search, wide._adam, tf.constant(0), tf.zeros(population), tf.constant(0.01))
        wide._move(*told)
        start = time.perf_counter()
        for _ in range(3):
            wide._move(*told)[0].mean.numpy()
        found[f"update of {population}"] = (time.perf_counter() - start) / 3
    drawn = (1024 - 256) / 2 * learner.policy.size / 1e6
    found["update of a million"] = (found["update of 1024"] - found["update of 256"]) / drawn
    return found


def model(found: dict[str, float], population: int, ranks: int) -> float:
    """Seconds of a generation: the groups of the rank that has most, the update that all make, and one all-gather."""
    groups = -(-population // GROUP // ranks)
    update = found["update of a million"] * population / 2 * found["parameters"] / 1e6
    gather = HOP * math.ceil(math.log2(max(ranks, 2))) + BYTE * 16 * population if ranks > 1 else 0.0
    return groups * found["group"] + update + gather


def scaling(out: Path) -> None:
    """Costs, the model for a population of 1,440 groups, and the number of ranks at which update and play are equal."""
    population, result = 1440 * GROUP, {}
    for env in TASKS:
        command = ["taskset", "-c", "0", sys.executable, __file__, "scaling", "--one", env]
        said = subprocess.check_output(command, cwd=ROOT, stderr=subprocess.DEVNULL, text=True)
        found = json.loads(said.splitlines()[-1])
        alone = model(found, population, 1)
        update = model(found, population, 1) - population // GROUP * found["group"]
        result[env] = {
            "costs": found,
            "speed-up": {ranks: round(alone / model(found, population, ranks), 1) for ranks in RANKS},
            "shares at 1440": {"play": found["group"], "update": update},
            "play equals update at ranks": round(population / GROUP * found["group"] / update),
            "two ranks of 64 members": round(model(found, 64, 1) / model(found, 64, 2), 3),
        }
        print(env, json.dumps(result[env]), flush=True)
    (out / "evolution-scaling.json").write_text(json.dumps(result, indent=1) + "\n")


def _evolve(agent: "agents.SNES") -> dict:
    from rlab.schedules import Schedule

    learner = agent.learner(Schedule(10**9))
    updates = learner.updates()

    def play() -> tuple[int, float]:
        update = next(updates)
        return update.steps, update.metrics["mean"]

    # The first rank's clock, so that all end after the same generation.
    return _speed(play, lambda: float(agent.comm.stack(np.array(time.perf_counter()))[0]))


def _speed(play: Callable[[], tuple[int, float]], clock: Callable[[], float] = time.perf_counter) -> dict:
    """`play` gives the steps so far and the mean return of one more generation."""
    begun = clock()
    first, _ = play()
    start = now = clock()
    steps, solved = first, None
    while now - start < SECONDS:
        steps, mean = play()
        now = clock()
        if solved is None and mean >= 475.0:
            solved = round(now - begun, 1)
    return {"steps_per_second": round((steps - first) / (now - start), 1), "solved_after": solved}


MEASURES = {
    **{f"EvoTorch {kind}": functools.partial(evotorch, kind) for kind in RIVALS},
    "rlab, groups of 64, simple": functools.partial(rlab, 64, "simple"),
    "rlab, groups of 256, simple": functools.partial(rlab, 256, "simple"),
    "rlab, groups of 256, full": functools.partial(rlab, 256, "full"),
    "rlab, 2 ranks, groups of 64, simple": functools.partial(rlab, 64, "simple"),
    "rlab, 2 ranks, groups of 128, simple": functools.partial(rlab, 128, "simple"),
    "Pong, groups of 16": functools.partial(pong, 16),
    "Pong, 2 ranks, groups of 16": functools.partial(pong, 16, threads=1),
    "Pong, one by one": functools.partial(pong, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rival", "pong", "scaling"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # in a process of its own
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    if arguments.one:
        measure = functools.partial(costs, arguments.one) if arguments.what == "scaling" else MEASURES[arguments.one]
        print(json.dumps(measure()))
        return
    if arguments.what == "scaling":
        scaling(arguments.out)
        return
    names = [name for name in MEASURES if name.startswith("Pong") == (arguments.what == "pong")]
    found: dict[str, list[dict]] = {name: [] for name in names}
    for _, name in itertools.product(range(arguments.rounds), names):
        launched = ["mpirun", "-n", "2"] if "2 ranks" in name else []
        command = [*launched, sys.executable, __file__, arguments.what, "--one", name]
        root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # does nothing for anyone else
        said = subprocess.check_output(command, cwd=ROOT, stderr=subprocess.DEVNULL, text=True, env=os.environ | root)
        found[name].append(json.loads(said.splitlines()[-1]))
        print(name, found[name][-1], flush=True)
    best = {name: max(result["steps_per_second"] for result in results) for name, results in found.items()}
    theirs = max(speed for name, speed in best.items() if name.startswith(("EvoTorch", "Pong, one")))
    ratios = {name: round(speed / theirs, 2) for name, speed in best.items()}
    (arguments.out / f"evolution-{arguments.what}.json").write_text(
        json.dumps({"ratios": ratios, "measured": found}, indent=1) + "\n"
    )
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()

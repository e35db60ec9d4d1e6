"""Steps per second on Pong: rlab's A3C against PFRL's A3C and stable-baselines3's A2C, and against the roofline.

    pip install -e '.[bench]'
    python benchmarks/throughput.py --out benchmarks/results/throughput.json

All contenders use the paper's network (stable-baselines3 its own Nature network), 84×84 frames and the same C++
emulation by ale-py, so that what differs is the agent. PFRL steps one environment in each process, as its A3C does.
Each contender runs in a process of its own, in turn, for several rounds; figures are medians over the rounds, counted
after a warm-up. Nothing else may run meanwhile.
"""

import argparse
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WARM_UP, SECONDS = 12.0, 25.0
K, T = 16, 5


def rlab_a3c(workers: int) -> float:
    """rlab's A3C: `workers` threads of 16 environments, t_max 5; read from the run's own metrics."""
    from launch.quiet import start_tensorflow

    start_tensorflow()
    import agents
    import envs
    from rlab.runs.metrics import read_metrics

    plain = {"gae_lambda": 1.0, "normalize_advantages": False, "value_weight": 0.25, "learning_rate": 1e-3}
    config = agents.A3C.Config(workers=workers, envs_per_worker=K, rollout_length=T, **plain)
    agent = agents.A3C(config, functools.partial(envs.make, "Pong"), "cnn")
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        # A run ends by steps; so many as the slowest machine makes in the time, then the rows are cut by the clock.
        timer = _stop_after(WARM_UP + SECONDS)
        agent.train(run, 1_000_000)
        timer.cancel()
        rows = [row for row in read_metrics(run) if row["seconds"] > WARM_UP]
    return (rows[-1]["steps"] - rows[0]["steps"]) / (rows[-1]["seconds"] - rows[0]["seconds"])


def pfrl_a3c(processes: int) -> float:
    """PFRL 0.4.0's A3C with the paper's network and t_max 5, as in its `train_a3c.py` example."""
    import multiprocessing

    steps = multiprocessing.Value("l", 0)
    began = multiprocessing.Barrier(processes + 1)
    import torch
    from pfrl.agents import A3C
    from pfrl.optimizers import SharedRMSpropEpsInsideSqrt

    torch.set_num_threads(1)
    model = _pfrl_network()
    model.share_memory()
    optimizer = SharedRMSpropEpsInsideSqrt(model.parameters(), lr=7e-4, eps=1e-1, alpha=0.99)
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, torch.Tensor):
                value.share_memory_()

    def work(seed: int) -> None:
        import envs

        torch.set_num_threads(1)
        env = envs.make("Pong", 1, seed)
        agent = A3C(model, optimizer, t_max=5, gamma=0.99, beta=1e-2, phi=lambda x: x.astype("float32") / 255.0)
        observation = env.reset()[0][0]
        began.wait()
        while True:
            action = agent.act(observation)
            observations, rewards, terminated, truncated, _ = env.step(_array(action))
            observation = observations[0]
            agent.observe(observation, float(rewards[0]), bool(terminated[0]), bool(truncated[0]))
            with steps.get_lock():
                steps.value += 1

    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(seed,), daemon=True) for seed in range(processes)]
    for worker in workers:
        worker.start()
    began.wait()
    rate = _rate(lambda: steps.value)
    for worker in workers:
        worker.kill()
    return rate


def sb3_a2c() -> float:
    """stable-baselines3's A2C with its own defaults for Atari, 16 environments in one process."""
    import numpy as np

    sys.modules["triton"] = None  # type: ignore[assignment]  # its LLVM and TensorFlow's cannot share a process
    from stable_baselines3 import A2C
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import VecEnv

    import envs

    class Adapter(VecEnv):
        """rlab's vector environment behind stable-baselines3's interface."""

        def __init__(self) -> None:
            self.env = envs.make("Pong", K, 0)
            super().__init__(K, self.env.single_observation_space, self.env.single_action_space)

        def reset(self):
            return self.env.reset()[0]

        def step_async(self, actions):
            self.actions = actions

        def step_wait(self):
            observations, rewards, terminated, truncated, info = self.env.step(np.asarray(self.actions))
            ended = terminated | truncated
            infos = [
                {"terminal_observation": info["final_obs"][i], "TimeLimit.truncated": bool(truncated[i])} if e else {}
                for i, e in enumerate(ended)
            ]
            return observations, rewards, ended, infos

        def close(self):
            self.env.close()

        def get_attr(self, name, indices=None):
            return [None] * K

        def set_attr(self, name, value, indices=None):
            pass

        def env_method(self, name, *args, indices=None, **kwargs):
            return [None] * K

        def env_is_wrapped(self, wrapper, indices=None):
            return [False] * K

    class Clock(BaseCallback):
        def _on_training_start(self):
            self.start, self.first = time.perf_counter(), None

        def _on_step(self):
            now = time.perf_counter() - self.start
            if self.first is None and now > WARM_UP:
                self.first = (now, self.num_timesteps)
            self.last = (now, self.num_timesteps)
            return now < WARM_UP + SECONDS

    clock = Clock()
    A2C("CnnPolicy", Adapter(), device="cpu", ent_coef=0.01, vf_coef=0.25).learn(10**9, callback=clock)
    return (clock.last[1] - clock.first[1]) / (clock.last[0] - clock.first[0])


def roofline() -> dict[str, float]:
    """Emulation, acting and gradient, each alone on all cores, one thread to a core; steps (images) per second."""
    import threading

    from launch.quiet import start_tensorflow

    start_tensorflow()
    import numpy as np
    import tensorflow as tf

    import envs
    from agents import a3c
    from rlab.policies.acting import compile_acting
    from rlab.policies.policy import Policy
    from rlab.rollout import Collector

    cores = os.cpu_count() or 1
    pool = [envs.make("Pong", K, seed) for seed in range(cores)]
    policy = Policy(pool[0].single_observation_space, pool[0].single_action_space, "cnn")
    params = tf.constant(policy.initial_parameters(0))
    act = compile_acting(policy)
    gradient = a3c.compile_gradient(policy, a3c.Config())
    trajectory, _ = Collector(pool[0], act, (), T, 0.99, 0).collect(params)
    observations = trajectory.observations[0]
    resets, seed = np.zeros(K, np.float32), np.zeros(2, np.int32)
    trajectory = tf.nest.map_structure(tf.constant, trajectory)

    def rate(work, size: int) -> float:
        counts, stop = [0] * cores, threading.Event()

        def loop(index: int) -> None:
            while not stop.is_set():
                work(index)
                counts[index] += size

        threads = [threading.Thread(target=loop, args=(index,)) for index in range(cores)]
        for thread in threads:
            thread.start()
        time.sleep(2.0)
        first, start = sum(counts), time.perf_counter()
        time.sleep(8.0)
        result = (sum(counts) - first) / (time.perf_counter() - start)
        stop.set()
        for thread in threads:
            thread.join()
        return result

    for env in pool:
        env.reset()
    generators = [np.random.default_rng(index) for index in range(cores)]
    emulate = rate(lambda i: pool[i].step(generators[i].integers(0, 6, K)), K)
    acting = rate(lambda i: act(params, observations, (), resets, seed)[0].numpy(), K)
    learning = rate(lambda i: gradient(params, trajectory, tf.constant(0.01))[0].numpy(), K * T)
    return {
        "emulation": emulate,
        "acting": acting,
        "gradient": learning,
        "roofline": 1.0 / (1.0 / emulate + 1.0 / acting + 1.0 / learning),
    }


CONTENDERS = {
    "roofline": roofline,
    "rlab_2_workers": functools.partial(rlab_a3c, 2),
    "rlab_1_worker": functools.partial(rlab_a3c, 1),
    "pfrl_a3c_2_processes": functools.partial(pfrl_a3c, 2),
    "sb3_a2c_16_envs": sb3_a2c,
}


def _stop_after(seconds: float):
    """Sends this process the signal that a person's Ctrl-C would, after a time."""
    import signal
    import threading

    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    return timer


def _rate(read) -> float:
    time.sleep(WARM_UP)
    first, start = read(), time.perf_counter()
    time.sleep(SECONDS)
    return (read() - first) / (time.perf_counter() - start)


def _array(action):
    import numpy as np

    return np.array([action])


def _pfrl_network():
    """The A3C paper's network in PyTorch, as PFRL's example builds it."""
    import pfrl
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(4, 16, 8, stride=4),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2592, 256),
        nn.ReLU(),
        pfrl.nn.Branched(
            nn.Sequential(nn.Linear(256, 6), pfrl.policies.SoftmaxCategoricalHead()),
            nn.Linear(256, 1),
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/throughput.json"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=CONTENDERS, help="run one contender here and print its figure")
    arguments = parser.parse_args()
    if arguments.only:
        print("FIGURE " + json.dumps(CONTENDERS[arguments.only]()), flush=True)
        os._exit(0)  # threads of the contenders may linger
    figures: dict[str, list] = {name: [] for name in CONTENDERS}
    for _ in range(arguments.rounds):
        for name in CONTENDERS:
            command = [sys.executable, __file__, "--only", name]
            output = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
            lines = [line for line in output.stdout.splitlines() if line.startswith("FIGURE ")]
            if not lines:
                raise SystemExit(f"{name} failed:\n{output.stderr[-2000:]}")
            figures[name].append(json.loads(lines[0].removeprefix("FIGURE ")))
            print(name, figures[name][-1], flush=True)
    roofs = figures.pop("roofline")
    median = {name: statistics.median(values) for name, values in figures.items()}
    limit = {key: statistics.median(roof[key] for roof in roofs) for key in roofs[0]}
    result = {
        "unit": "agent steps (4 frames) per second, median over rounds",
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "rounds": figures,
        "median": median,
        "roofline": limit,
        "ratios": {
            "to_pfrl_a3c": median["rlab_2_workers"] / median["pfrl_a3c_2_processes"],
            "to_sb3_a2c": median["rlab_2_workers"] / median["sb3_a2c_16_envs"],
            "two_workers_to_one": median["rlab_2_workers"] / median["rlab_1_worker"],
            "of_roofline": median["rlab_2_workers"] / limit["roofline"],
        },
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["ratios"], indent=2))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()

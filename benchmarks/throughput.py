"""Steps per second on Pong: rlab's A3C, its rivals, and the limit that this machine sets.

    pip install -e '.[bench]'
    python benchmarks/throughput.py --out benchmarks/results/throughput.json

All contenders use the paper's network (stable-baselines3 its own Nature network), 84×84 frames and the same C++
emulation by ale-py, so that what differs is the agent. PFRL steps one environment in each process, as its A3C does. The
lean A2C is a bare loop in PyTorch over ale-py's own vector environment, with no framework around it. rlab's are whole
commands, as they are typed; `--before TREE` takes another checkout's command along. Each contender runs in processes of
its own, in turn, for several rounds; figures are medians over the rounds, counted after a warm-up, and beside them the
cores that were busy. Nothing else may run meanwhile.

The limit is that of one core, taken with all others idle, times the cores: each part of a step alone, in one thread
of a process that is held to one core, without the loop around it. `limit_at_once` takes the same on all cores at once.
Alone, each part finds its data in the core's caches; `in_turn_a_core` is what the same parts make one after another.
"""

import argparse
import contextlib
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

ROOT = Path(__file__).resolve().parents[1]
WARM_UP, SECONDS = 12.0, 25.0
K, T = 16, 5
PAPER = ["--backbone", "cnn", "--frame-size", "84", "--envs-per-worker", str(K), "--rollout-length", str(T)]


def command(*flags: str, tree: Path = ROOT, mpirun: int = 0) -> dict[str, float]:
    """What is `measured` of `python -m launch a3c --env Pong` with the paper's network."""
    steps = str(100_000 * len(os.sched_getaffinity(0)))  # more than the time allows, with a row each second or so
    return measured("a3c", "--env", "Pong", "--steps", steps, *PAPER, *flags, tree=tree, mpirun=mpirun)


def measured(*words: str, tree: Path = ROOT, mpirun: int = 0) -> dict[str, float]:
    """Steps per second, cores busy and memory of a whole command, once it has made its first steps."""
    import psutil

    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        called = [sys.executable, "-m", "launch", *words]
        if mpirun:
            called = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(mpirun), *called]
        environment = os.environ | {"PYTHONPATH": str(tree)}
        start = time.monotonic()
        errors = Path(directory) / "errors.txt"
        with (
            errors.open("w") as file,
            subprocess.Popen([*called, "--run", str(run)], cwd=directory, env=environment, stderr=file) as process,
        ):
            while not (rows := _rows(run)):
                time.sleep(0.02)
                if process.poll() is not None or time.monotonic() - start > 120:
                    process.kill()
                    raise SystemExit(f"{' '.join(called)} made no steps:\n{errors.read_text()[-2000:]}")
            first = time.monotonic() - start
            time.sleep(WARM_UP / 2)
            tree_of = psutil.Process(process.pid)
            members = [tree_of, *tree_of.children(recursive=True)]
            before, rows, began = _cpu(members), _rows(run), time.monotonic()
            time.sleep(SECONDS)
            after, later, seconds = _cpu(members), _rows(run), time.monotonic() - began
            private = [_private(member) for member in members]
            process.terminate()
    made = float(later[-1]["steps"]) - float(rows[-1]["steps"])
    return {
        "steps_per_second": made / (float(later[-1]["seconds"]) - float(rows[-1]["seconds"])),
        "cores_busy": (after - before) / seconds,
        "staleness": float(later[-1].get("staleness", 0.0)),
        "first_row_seconds": first,
        "private_mib": sum(private),
    }


def _rows(run: Path) -> list[dict[str, str]]:
    import csv

    try:
        text = (run / "metrics.csv").read_text()
    except OSError:
        return []
    whole = text[: text.rfind("\n") + 1]  # and no row that is being written
    return list(csv.DictReader(whole.splitlines()))


def _cpu(members) -> float:
    """Seconds of processor time that processes have taken."""
    import psutil

    total = 0.0
    for member in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(member.cpu_times()[:2])
    return total


def _private(member) -> float:
    return member.memory_full_info().uss / 2**20


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


def lean_a2c(envs_in_all: int) -> float:
    """A bare synchronous A2C in PyTorch over ale-py's vector environment: what a user might write for speed alone."""
    import numpy as np
    import torch
    from torch.nn import functional

    import envs

    cores = len(os.sched_getaffinity(0))
    env = envs.make("Pong", envs_in_all, 0, threads=cores)
    torch.set_num_threads(cores)
    torch.manual_seed(0)
    layers = torch.nn
    torso = layers.Sequential(
        layers.Conv2d(4, 16, 8, 4), layers.ReLU(), layers.Conv2d(16, 32, 4, 2), layers.ReLU(), layers.Flatten()
    )
    torso.append(layers.Linear(2592, 256)).append(layers.ReLU())
    head = layers.Linear(256, 7)
    parameters = [*torso.parameters(), *head.parameters()]
    optimizer = torch.optim.RMSprop(parameters, 7e-4, 0.99, 1e-5)

    def network(images):
        outputs = head(torso(torch.as_tensor(images).float() / 255.0))
        return outputs[..., :6], outputs[..., 6]

    observations, start, made, first = env.reset()[0], time.perf_counter(), 0, None
    while (now := time.perf_counter() - start) < WARM_UP + SECONDS:
        if first is None and now > WARM_UP:
            first = now, made
        seen, actions, rewards, alive = [], [], [], []
        for _ in range(T):
            with torch.no_grad():
                logits, _ = network(observations)
                chosen = torch.distributions.Categorical(logits=logits).sample()
            seen.append(observations)
            actions.append(chosen)
            observations, reward, terminated, truncated, _ = env.step(chosen.numpy().astype(np.int64))
            rewards.append(torch.as_tensor(reward, dtype=torch.float32))
            alive.append(torch.as_tensor(~(terminated | truncated), dtype=torch.float32))
        with torch.no_grad():
            returns, following = [], network(observations)[1]
            for reward, goes_on in zip(reversed(rewards), reversed(alive), strict=True):
                following = reward + 0.99 * goes_on * following
                returns.insert(0, following)
        logits, values = network(np.concatenate(seen))
        policy, target = torch.distributions.Categorical(logits=logits), torch.cat(returns)
        advantages = (target - values).detach()
        loss = -(policy.log_prob(torch.cat(actions)) * advantages).mean()
        loss = loss + 0.25 * functional.mse_loss(values, target) - 0.01 * policy.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        made += T * envs_in_all
    return (made - first[1]) / (time.perf_counter() - start - first[0])


def limit() -> dict[str, float]:
    """Microseconds of each part of a step alone on one core, and what a core could make of them."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # before TensorFlow counts them
    from launch.process import start_tensorflow

    start_tensorflow()
    import numpy as np
    import tensorflow as tf

    import agents
    import envs
    from agents import a3c
    from rlab.ops import compiling
    from rlab.ops.optimizers import rmsprop_update
    from rlab.policies.acting import compile_acting
    from rlab.policies.policy import Policy
    from rlab.sampling.rollout import Collector, background

    env = envs.make("Pong", K, 0)
    brightness = background(functools.partial(envs.make, "Pong"), 0)  # as A3C's policies see images
    policy = Policy(env.single_observation_space, env.single_action_space, "cnn", background=brightness)
    params = tf.constant(policy.initial_parameters(0))
    resets, seed, weight = np.zeros(K, np.float32), np.zeros(2, np.int32), tf.constant(0.01)
    found: dict[str, float] = {}
    for compiler in compiling.COMPILERS:
        act = compile_acting(policy, formulation=compiling.Formulation(compiler))
        gradient = a3c.compile_gradient(policy, agents.A3C.Config(compiler=compiler))
        if compiler == compiling.COMPILERS[0]:
            trajectory, _ = Collector(env, act, (), T, 0.99, 0).collect(params)
        images = trajectory.observations[0]
        tensors = tf.nest.map_structure(tf.constant, trajectory)
        found[f"acting_{compiler}"] = _micro(lambda: act(params, images, (), resets, seed)[0].numpy()) / K  # noqa: B023
        found[f"gradient_{compiler}"] = _micro(lambda: gradient(params, tensors, weight)[0].numpy()) / K / T  # noqa: B023
    env.reset()
    generator = np.random.default_rng(0)
    found["emulation"] = _micro(lambda: env.step(generator.integers(0, 6, K))) / K
    vector, square, change = np.zeros((3, policy.size), np.float32)
    found["push_and_pull"] = _micro(lambda: (rmsprop_update(vector, square, change, 1e-3, 0.99, 1e-5), vector.copy()))
    found["push_and_pull"] /= K * T
    acting, learning = (found[f"{part}_{_fastest(found, part).compiler}"] for part in ("acting", "gradient"))
    # The values after the last step of a rollout are one acting call more.
    total = found["emulation"] + acting * (T + 1) / T + learning + found["push_and_pull"]
    collector = Collector(env, compile_acting(policy, formulation=_fastest(found, "acting")), (), T, 0.99, 0)
    gradient = a3c.compile_gradient(policy, agents.A3C.Config(compiler=_fastest(found, "gradient").compiler))

    def rollout() -> None:
        change = gradient(tf.constant(vector.copy()), collector.collect(params)[0], weight)[0].numpy()
        rmsprop_update(vector, square, change, 1e-3, 0.99, 1e-5)

    in_turn = K * T * 1e6 / _micro(rollout)
    square = tf.random.normal((2048, 2048))
    peak = 2 * 2048**3 / _micro(lambda: tf.matmul(square, square).numpy()) / 1e3
    flops = 2.0 * (20 * 20 * 16 * 8 * 8 * 4 + 9 * 9 * 32 * 4 * 4 * 16 + 2592 * 256 + 256 * 7)
    return {
        **{f"{name}_us": value for name, value in found.items()},
        "a_core": 1e6 / total,
        "limit": len(cores) * 1e6 / total,
        "in_turn_a_core": in_turn,
        "peak_gflops_of_a_core": peak,
        "acting_share_of_peak": flops / acting / 1e3 / peak,
        # Backwards the first layer has no inputs to differentiate, each other layer costs twice its forward pass.
        "gradient_share_of_peak": (3.0 * flops - 2.0 * 20 * 20 * 16 * 8 * 8 * 4) / learning / 1e3 / peak,
    }


def _fastest(found: dict[str, float], part: str):
    """How a part runs fastest."""
    from rlab.ops import compiling

    return compiling.Formulation(min(compiling.COMPILERS, key=lambda name: found[f"{part}_{name}"]))


def limit_at_once() -> dict[str, float]:
    """The same taken on all cores at once: what they leave one another of caches, memory and clock."""
    words = [sys.executable, __file__, "--only", "limit"]
    running = [
        subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=functools.partial(os.sched_setaffinity, 0, {core}),
        )
        for core in sorted(os.sched_getaffinity(0))
    ]
    told = [process.communicate()[0] for process in running]
    found = [json.loads(one.rpartition("FIGURE ")[2]) for one in told]
    each = {name: statistics.mean(one[name] for one in found) for name in found[0]}
    return each | {"limit": sum(one["a_core"] for one in found)}


def _micro(call, seconds: float = 4.0) -> float:
    """Microseconds of a call, the mean over some seconds after a warm-up."""
    until = time.perf_counter() + seconds / 4
    while time.perf_counter() < until:
        call()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        call()
        count += 1
    return (time.perf_counter() - start) / count * 1e6


CONTENDERS = {
    "limit": limit,
    "limit_at_once": limit_at_once,
    "rlab": command,
    "rlab_bfloat16": functools.partial(command, "--precision", "bfloat16"),
    "rlab_1_worker": functools.partial(command, "--workers", "1"),
    "pfrl_a3c_2_processes": functools.partial(pfrl_a3c, 2),
    "pfrl_a3c_4_processes": functools.partial(pfrl_a3c, 4),
    "sb3_a2c_16_envs": sb3_a2c,
    "lean_a2c_16_envs": functools.partial(lean_a2c, 16),
    "lean_a2c_64_envs": functools.partial(lean_a2c, 64),
}


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
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "throughput.json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, help="another checkout, whose command runs too")
    parser.add_argument("--only", choices=[*CONTENDERS, "before"], help="run one contender here and print its figure")
    arguments = parser.parse_args()
    contenders = dict(CONTENDERS)
    if arguments.before:
        contenders["before"] = functools.partial(command, tree=arguments.before.resolve())
    if arguments.only:
        print("FIGURE " + json.dumps(contenders[arguments.only]()), flush=True)
        os._exit(0)  # threads of the contenders may linger
    figures: dict[str, list] = {name: [] for name in contenders}
    for _ in range(arguments.rounds):
        for name in contenders:
            words = [sys.executable, __file__, "--only", name]
            words += ["--before", str(arguments.before)] if arguments.before else []
            output = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
            lines = [line for line in output.stdout.splitlines() if line.startswith("FIGURE ")]
            if not lines:
                raise SystemExit(f"{name} failed:\n{output.stderr[-2000:]}")
            figures[name].append(json.loads(lines[0].removeprefix("FIGURE ")))
            print(name, figures[name][-1], flush=True)
    median = {name: _median(values) for name, values in figures.items()}
    speed = {
        name: found if isinstance(found, float) else found.get("steps_per_second") for name, found in median.items()
    }
    result = {
        "unit": "agent steps (4 frames) per second, median over rounds",
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "rounds": figures,
        "median": median,
        "ratios": {
            **{f"to_{name}": speed["rlab"] / value for name, value in speed.items() if value and name != "rlab"},
            "of_limit": speed["rlab"] / median["limit"]["limit"],
        },
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["median"] | result["ratios"], indent=2))


def _median(values: list):
    if isinstance(values[0], dict):
        return {key: statistics.median(value[key] for value in values) for key in values[0]}
    return statistics.median(values)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()

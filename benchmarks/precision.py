"""How far a gradient in bfloat16 is from that in float32, beside how far the gradients of two rollouts are apart.

    python benchmarks/precision.py --out benchmarks/results/precision.json [RUN ...]

For new policies of Pong and Breakout, and for those of A3C's runs on games: with what is tuned for all games, rollout
after rollout, |Δ(bfloat16) − Δ(float32)| / |Δ(float32)|, of unbounded gradients.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

ROLLOUTS = 40


def measured(policy, params: np.ndarray, game: str, seed: int = 0) -> dict[str, float]:
    """Quantiles over some rollouts of the policy."""
    import tensorflow as tf

    import agents
    import envs
    from agents import a3c, tuning
    from rlab.policies import compile_acting
    from rlab.sampling.rollout import Collector

    tuned = tuning.tuned("a3c", game, atari=True)
    config = dataclasses.replace(agents.A3C.Config(**tuned["config"]), max_gradient_norm=1e9, compiler="graph")
    gradients = {
        precision: a3c.compile_gradient(policy, dataclasses.replace(config, precision=precision))
        for precision in ("float32", "bfloat16")
    }
    K = config.envs_per_worker
    env = envs.make(game, K, seed, **tuned["env"])
    collector = Collector(
        env,
        compile_acting(policy),
        policy.initial_state(K),
        config.rollout_length,
        config.discount,
        seed,
        to_environment=policy.to_environment,
    )
    params, weight = tf.constant(params), tf.constant(config.entropy_weight)
    for _ in range(10):  # away from the first frames, which all copies share
        collector.collect(params)
    errors, apart, before = [], [], None
    for _ in range(ROLLOUTS):
        trajectory, _ = collector.collect(params)
        exact, rounded = (gradients[name](params, trajectory, weight)[0].numpy() for name in ("float32", "bfloat16"))
        errors.append(np.linalg.norm(rounded - exact) / np.linalg.norm(exact))
        if before is not None:
            apart.append(np.linalg.norm(exact - before) / np.linalg.norm(exact))
        before = exact
    env.close()
    low, median, high = (float(value) for value in np.quantile(errors, (0.05, 0.5, 0.95)))
    return {"error": median, "error_5": low, "error_95": high, "two_rollouts_apart": float(np.median(apart))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    from launch.process import start_tensorflow

    start_tensorflow()
    import envs
    import rlab
    from rlab.policies import Policy
    from rlab.sampling.rollout import background

    found = {}
    for game in ("Pong", "Breakout"):
        make = lambda game=game, **sizes: envs.make(game, **sizes)  # noqa: E731
        env = make(num_envs=1, seed=0)
        policy = Policy(env.single_observation_space, env.single_action_space, background=background(make, 0))
        found[f"{game}, new"] = measured(policy, policy.initial_parameters(0), game)
    for run in given.runs:
        game = json.loads((run / "config.json").read_text())["env"]["name"]
        trained = rlab.load_policy(run)
        found[f"{game}, {rlab.runs.Run.open(run).latest_checkpoint().steps} steps"] = measured(
            trained.policy, trained.parameters, game
        )
    for name, numbers in found.items():
        print(name, {key: round(value, 3) for key, value in numbers.items()})
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

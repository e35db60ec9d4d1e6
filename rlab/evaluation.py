"""Policy to episodes: how good a policy is, without bias towards short episodes."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from rlab.policies.trained import TrainedPolicy
from rlab.rollout import finished_episodes
from rlab.seeding import derive
from rlab.types import Episode

_PARALLEL = 10


def play_episodes(
    policy: TrainedPolicy,
    make_env: Callable[..., gym.vector.VectorEnv],
    episodes: int,
    seed: int,
    deterministic: bool = False,
) -> list[Episode]:
    """Exactly `episodes` whole episodes under the policy.

    Environment i plays a number of episodes fixed beforehand: to take the first that end would favour the short ones.
    """
    B = min(episodes, _PARALLEL)
    env = make_env(num_envs=B, seed=derive(seed, "evaluation"))
    quota = np.array([episodes // B + (i < episodes % B) for i in range(B)])
    state, resets = policy.initial_state(B), np.ones(B, np.float32)
    observations, _ = env.reset()
    played: list[Episode] = []
    while quota.any():
        actions, state = policy.act(observations, state, resets, deterministic)
        observations, _, terminated, truncated, info = env.step(actions)
        ended = terminated | truncated
        played += finished_episodes(ended & (quota > 0), info) if ended.any() else []
        quota -= ended & (quota > 0)
        resets = ended.astype(np.float32)
    env.close()
    return played


def summarize(episodes: list[Episode]) -> dict[str, Any]:
    """`episodes`, `mean_return`, `std_return` (population), `mean_length` and, where it is reported, `success_rate`."""
    scores = np.array([episode.score for episode in episodes])
    summary: dict[str, Any] = {
        "episodes": len(episodes),
        "mean_return": float(scores.mean()),
        "std_return": float(scores.std()),
        "mean_length": float(np.mean([episode.length for episode in episodes])),
    }
    successes = [episode.success for episode in episodes if episode.success is not None]
    if successes:
        summary["success_rate"] = float(np.mean(successes))
    return summary

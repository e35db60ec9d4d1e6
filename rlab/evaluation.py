"""Policy to episodes: how good a policy is, without bias towards short episodes."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rlab.errors import TrainingError
from rlab.policies.trained import TrainedPolicy
from rlab.rollout import PATIENCE, finished_episodes
from rlab.seeding import derive
from rlab.types import Episode

_PARALLEL = 10


def play_episodes(
    policy: TrainedPolicy,
    make_env: Callable[..., gym.vector.VectorEnv],
    episodes: int,
    seed: int,
    deterministic: bool = False,
    watch: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], None] | None = None,
) -> list[Episode]:
    """Exactly `episodes` whole episodes under the policy, in the order in which they ended.

    Environment i plays a number of episodes fixed beforehand: to take the first that end would favour the short ones.
    After each step `watch` is told the observations before it [B, ...], the actions [B, ...], in which environments it
    counts and where an episode ended, bool [B] each. Raises BadInputError when the policy does not fit the environment,
    TrainingError when no episode will end.
    """
    B = min(episodes, _PARALLEL)
    env = make_env(num_envs=B, seed=derive(seed, "evaluation"))
    policy.require_fit(env)
    quota = np.array([episodes // B + (i < episodes % B) for i in range(B)])
    state, resets = policy.initial_state(B), np.ones(B, np.float32)
    observations, _ = env.reset()
    played: list[Episode] = []
    silent = 0
    while quota.any():
        silent += 1
        if silent > PATIENCE:
            raise TrainingError(f"no episode ended in {PATIENCE:,} steps: the environment needs a time limit")
        actions, state = policy.act(observations, state, resets, deterministic)
        before = observations.copy() if watch else observations
        observations, _, terminated, truncated, info = env.step(actions)
        ended = terminated | truncated
        played += finished_episodes(ended & (quota > 0), info) if ended.any() else []
        if watch:
            watch(before, actions, quota > 0, ended)
        silent = 0 if ended.any() else silent
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


def film_episodes(
    policy: TrainedPolicy, filmed: Any, out: Path, episodes: int, deterministic: bool = False
) -> list[float]:
    """Play whole episodes and write them to a video (`.mp4` or `.gif`); returns their scores.

    `filmed` has an environment `env` (B = 1), a camera `frame()` and its speed `fps`, as `envs.make_filmed` gives.
    """
    from imageio import v2 as imageio

    env, state, reset = filmed.env, policy.initial_state(1), np.ones(1, np.float32)
    observations, _ = env.reset()
    scores: list[float] = []
    if out.suffix.lower() == ".mp4":
        video = imageio.get_writer(out, fps=filmed.fps, macro_block_size=2)
    else:
        video = imageio.get_writer(out, duration=1000.0 / filmed.fps, loop=0)
    with contextlib.closing(env), video:
        video.append_data(_enlarged(filmed.frame()))
        while len(scores) < episodes:
            actions, state = policy.act(observations, state, reset, deterministic)
            observations, _, terminated, truncated, info = env.step(actions)
            reset = (terminated | truncated).astype(np.float32)
            video.append_data(_enlarged(filmed.frame()))
            if reset.any():
                scores += [episode.score for episode in finished_episodes(reset > 0, info)]
    return scores


def _enlarged(frame: np.ndarray) -> np.ndarray:
    """Small pictures at three times their size, with sides that video codecs take (even numbers)."""
    if frame.shape[0] < 300:
        frame = frame.repeat(3, axis=0).repeat(3, axis=1)
    return frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]

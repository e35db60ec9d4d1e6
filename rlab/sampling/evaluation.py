"""The evaluation of a policy by whole episodes, without bias towards short ones."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rlab.environments import VectorEnvironment, factory
from rlab.errors import TrainingError, name_of
from rlab.files import FILMS, require_place, writing
from rlab.notify import waiting
from rlab.policies.inference import InferencePolicy
from rlab.sampling.rollout import PATIENCE, finished_episodes, whole_ends
from rlab.seeding import derive
from rlab.settings import check_whole
from rlab.types import Episode

_PARALLEL = 10


class _Patience:
    """A limit to the steps of an episode; as text, how far a play has come that takes long."""

    def __init__(self, env: VectorEnvironment, episodes: int, max_steps: int) -> None:
        self._name, self._episodes, self._limit = name_of(env), episodes, max_steps
        self._played = self._steps = 0

    def check(self, played: int, steps: int) -> None:
        """Note the episodes played and the steps of the longest that goes on; raises TrainingError at the limit."""
        self._played, self._steps = played, steps
        if steps >= self._limit:
            raise TrainingError(
                f"an episode of environment {self._name} did not end in {self._limit:,} steps (--max-steps): "
                "the environment needs a time limit"
            )

    def __str__(self) -> str:
        return (
            f"playing {self._name}: {self._played} of {self._episodes} episodes, the longest goes on since "
            f"{self._steps:,} of at most {self._limit:,} steps"
        )


def as_trained(policy: InferencePolicy, deterministic: bool | None) -> bool:
    """Tell whether the likeliest action is taken: as is asked for, or (None) as in the policy's training."""
    return bool(getattr(policy, "deterministic", False) if deterministic is None else deterministic)


def play_episodes(
    policy: InferencePolicy,
    make_env: str | Callable[..., Any],
    episodes: int,
    seed: int,
    deterministic: bool | None = None,
    watch: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], None] | None = None,
    max_steps: int = PATIENCE,
) -> list[Episode]:
    """Exactly `episodes` whole episodes under the policy, in the order in which they ended.

    `make_env` is what `envs.factory` takes: a factory of vector environments, of single ones, or a name.
    Environment i plays a number of episodes fixed beforehand: to take the first that end would favour the short ones.
    With `deterministic` the likeliest actions are taken, and samples where it is False; None is as in training.
    After each step `watch` is told the observations before it [B, ...], the actions [B, ...], in which environments it
    counts and where an episode ended, bool [B] each. Raises BadInputError when the policy does not fit the environment,
    or a number is none of episodes, steps or seeds; TrainingError when an episode does not end within `max_steps`.
    """
    episodes, max_steps = _checked(episodes, max_steps)
    B = min(episodes, _PARALLEL)
    env = factory(make_env)(num_envs=B, seed=derive(seed, "evaluation"))
    patience, steps = _Patience(env, episodes, max_steps), np.zeros(B, int)
    with contextlib.closing(env), waiting(patience):
        policy.require_fit(env)
        quota = np.array([episodes // B + (i < episodes % B) for i in range(B)])
        state, resets = policy.initial_state(B), np.ones(B, np.float32)
        observations, _ = env.reset()
        played: list[Episode] = []
        deterministic = as_trained(policy, deterministic)
        while quota.any():
            actions, state = policy.act(observations, state, resets, deterministic)
            before = observations
            observations, _, terminated, truncated, info = env.step(actions)
            resets = (terminated | truncated).astype(np.float32)
            ended, counts = whole_ends(terminated | truncated, info), quota > 0
            steps = np.where(ended, 0, steps + 1)
            played += finished_episodes(ended & counts, info) if ended.any() else []
            if watch:
                watch(before, actions, counts, ended)
            quota -= ended & counts
            patience.check(len(played), int(steps[quota > 0].max(initial=0)))
    return played


def _checked(episodes: int, max_steps: int) -> tuple[int, int]:
    return check_whole("the number of episodes", episodes), check_whole("max_steps", max_steps)


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
    policy: InferencePolicy,
    filmed: Any,
    out: str | Path,
    episodes: int,
    deterministic: bool | None = None,
    max_steps: int = PATIENCE,
) -> list[float]:
    """Play whole episodes and write them to a video (`.mp4` or `.gif`); returns their scores.

    `filmed` has an environment `env` (B = 1), a camera `frame()`, the picture of a step that ended an episode
    `last_frame()`, and its speed `fps`, as `envs.make_filmed` gives. The file appears when it is whole. Raises
    BadInputError where none can be written at `out`, and else as `play_episodes`.
    """
    episodes, max_steps = _checked(episodes, max_steps)
    require_place(out := Path(out), *FILMS)
    env, state, reset = filmed.env, policy.initial_state(1), np.ones(1, np.float32)
    deterministic = as_trained(policy, deterministic)
    patience, steps = _Patience(env, episodes, max_steps), 0
    with contextlib.closing(env), waiting(patience):
        observations, _ = env.reset()
        first = _enlarged(filmed.frame())  # raises where nothing can be filmed, before there is a file
        scores: list[float] = []
        with _whole_video(out, filmed.fps) as show:
            show(first)
            while len(scores) < episodes:
                actions, state = policy.act(observations, state, reset, deterministic)
                observations, _, terminated, truncated, info = env.step(actions)
                ended = whole_ends(terminated | truncated, info)
                reset, steps = (terminated | truncated).astype(np.float32), steps + 1
                if ended.any():
                    scores += [episode.score for episode in finished_episodes(ended, info)]
                    show(_enlarged(filmed.last_frame()))
                    steps = 0
                if len(scores) < episodes:
                    show(_enlarged(filmed.frame()))
                    patience.check(len(scores), steps)
    return scores


@contextlib.contextmanager
def _whole_video(out: Path, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """While entered, take pictures, uint8 [H, W, 3], for a video that appears at `out` when it is whole."""
    from imageio import v2 as imageio

    kind = (
        {"fps": fps, "macro_block_size": 2} if out.suffix.lower() == ".mp4" else {"duration": 1000.0 / fps, "loop": 0}
    )
    sizes: set[tuple[int, ...]] = set()
    # A directory beside, gone with all that is in it: a program that draws videos may make its file late.
    with (
        writing(out),
        tempfile.TemporaryDirectory(prefix=".film-", dir=out.absolute().parent, ignore_cleanup_errors=True) as beside,
    ):
        unfinished = Path(beside) / f"film{out.suffix.lower()}"
        # The writer's own `with` leaves its program running when something is raised.
        with contextlib.closing(imageio.get_writer(unfinished, **kind)) as video:  # type: ignore[arg-type]

            def show(picture: np.ndarray) -> None:
                sizes.add(picture.shape)
                if len(sizes) > 1:
                    raise TrainingError(f"the pictures of a film must have one size, not {sorted(sizes)}")
                video.append_data(picture)

            yield show
        unfinished.replace(out)


def _enlarged(frame: np.ndarray) -> np.ndarray:
    """Small pictures at three times their size, with sides that video codecs take (even numbers)."""
    if frame.shape[0] < 300:
        frame = frame.repeat(3, axis=0).repeat(3, axis=1)
    return frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]

"""Demonstrations of a policy for others to imitate: what it saw and did, in whole episodes, in one .npz file."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import numpy as np

from rlab.arrays import read_npz, to_npz
from rlab.errors import BadInputError
from rlab.policies.inference import InferencePolicy
from rlab.sampling.evaluation import play_episodes
from rlab.sampling.rollout import PATIENCE


class Demonstrations(NamedTuple):
    """N steps of E whole episodes, one after another."""

    observations: np.ndarray  # [N, ...], before each action
    actions: np.ndarray  # [N, ...], as the environment takes them
    episodes: np.ndarray  # int32 [N], the number of the episode, from 0 on
    returns: np.ndarray  # float64 [E]


def demonstrate(
    policy: InferencePolicy,
    make_env: str | Callable[..., Any],
    episodes: int,
    seed: int,
    deterministic: bool | None = None,
    max_steps: int = PATIENCE,
) -> Demonstrations:
    """Exactly `episodes` whole episodes of the policy, the same that `play_episodes` plays."""
    playing: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    finished: list[list[tuple[np.ndarray, np.ndarray]]] = []

    def watch(observations: np.ndarray, actions: np.ndarray, counts: np.ndarray, ended: np.ndarray) -> None:
        for row in np.flatnonzero(counts).tolist():
            playing.setdefault(row, []).append((observations[row], np.array(actions[row])))
            if ended[row]:
                finished.append(playing.pop(row))

    played = play_episodes(policy, make_env, episodes, seed, deterministic, watch, max_steps)
    observations, actions = (np.stack([step[k] for taken in finished for step in taken]) for k in (0, 1))
    numbers = np.repeat(np.arange(len(finished), dtype=np.int32), [len(taken) for taken in finished])
    return Demonstrations(observations, actions, numbers, np.array([episode.score for episode in played]))


def save(demonstrations: Demonstrations) -> bytes:
    """The content of an .npz file, with a digest of its arrays."""
    return to_npz(demonstrations._asdict())


def load(path: str | Path) -> Demonstrations:
    """Load demonstrations; raises BadInputError for a file that is missing, damaged, or holds none.

    Executes nothing found in it. One of version 0.1 has no digest, which is noted on standard error.
    """
    path = Path(path)
    if not path.exists():
        raise BadInputError(
            f"{path} is missing; `python -m launch record RUN --demonstrations --out {quote(str(path))}` makes one"
        )
    if path.is_file() and not zipfile.is_zipfile(path):
        raise BadInputError(f"{path} is no .npz file, or a damaged one; `record RUN --demonstrations` makes such files")
    try:
        found = Demonstrations(**read_npz(path, Demonstrations._fields, digested=True))
    except BadInputError as error:
        raise BadInputError(f"{path} holds no demonstrations: {error}") from error
    kinds = [np.asarray(part).dtype.kind for part in found]
    if any(kind not in "biuf" for kind in kinds) or kinds[2] not in "iu" or found.returns.ndim != 1:
        raise BadInputError(f"{path} holds no demonstrations: its arrays are not of numbers")
    if min(part.ndim for part in found) < 1 or not (
        len(found.observations) == len(found.actions) == len(found.episodes) and found.episodes.ndim == 1
    ):
        raise BadInputError(f"{path} is damaged: its arrays are not of one length")
    if not len(found.actions):
        raise BadInputError(f"{path} holds no demonstrations: it is empty")
    return found

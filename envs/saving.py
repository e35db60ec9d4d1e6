"""The whole state of a vector environment as arrays, where that can be had: a later process goes on to the bit."""

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from envs.rows import RowVectorEnv

_COUNTED = ("episode_returns", "episode_lengths", "prev_dones")


def save(env: VectorEnv) -> dict[str, np.ndarray] | None:
    """States, generators and episode statistics of the project's own environments; None of any other."""
    rows, statistics = _inside(env)
    if rows is None:
        return None
    arrays = {f"statistics/{name}": np.copy(getattr(statistics, name)) for name in _COUNTED} if statistics else {}
    return arrays | rows.save()


def load(env: VectorEnv, arrays: dict[str, np.ndarray]) -> None:
    """Go on from what `save` gave of an environment of the same make, in place of a reset."""
    env.reset()  # what it draws is forgotten
    rows, statistics = _inside(env)
    assert rows is not None
    rows.load(arrays)
    for name in _COUNTED if statistics else ():
        setattr(statistics, name, arrays[f"statistics/{name}"].copy())


def _inside(env: VectorEnv) -> tuple[RowVectorEnv | None, RecordEpisodeStatistics | None]:
    """The environment under all wrappers, if it is of the project's own, and the one that counts episodes."""
    statistics = None
    while isinstance(env, VectorWrapper):
        statistics = env if isinstance(env, RecordEpisodeStatistics) else statistics
        env = env.env
    return (env if isinstance(env, RowVectorEnv) else None), statistics

"""Environments as NumPy functions of rows: written once, run as one `gymnasium.Env` or as many copies at once."""

import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

SEEDS = 2**31  # what an environment may be seeded with is below: many keep it in an int32


class Outcome(NamedTuple):
    """The result of one step of B rows."""

    states: np.ndarray  # float64 [B, S], after the step
    rewards: np.ndarray  # float64 [B]
    terminated: np.ndarray  # bool [B]
    success: np.ndarray | None = None  # bool [B], whether an episode that ends now has reached its goal


class Rows(Protocol):
    """A task whose whole state, with all that is random about an episode, is a row of S numbers."""

    limit: int | None  # steps after which an episode is truncated, where the task's options decide that

    @property
    def observation_space(self) -> gym.Space:
        """Observation space of one row."""

    @property
    def action_space(self) -> gym.Space:
        """Action space of one row."""

    def begin(self, rng: np.random.Generator) -> np.ndarray:
        """The state of one row, float64 [S], at an episode's start."""

    def step(self, states: np.ndarray, actions: np.ndarray) -> Outcome:
        """One step of the states [B, S] under actions [B, ...]."""

    def observe(self, states: np.ndarray) -> np.ndarray:
        """The agent's observations [B, ...] of the states [B, S]."""

    def picture(self, state: np.ndarray) -> np.ndarray:
        """A picture of one state [S] for a person, uint8 [H, W, 3]."""


class RowEnv(gym.Env):
    """One row as a `gymnasium.Env`."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(self, rows: Rows, render_mode: str | None = None) -> None:
        self.rows, self.render_mode = rows, render_mode
        self.observation_space, self.action_space = rows.observation_space, rows.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        self._states = self.rows.begin(self.np_random)[None]
        return self.rows.observe(self._states)[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        outcome = self.rows.step(self._states, np.asarray(action)[None])
        self._states, self._steps = outcome.states, self._steps + 1
        info = {} if outcome.success is None else {"is_success": bool(outcome.success[0])}
        truncated = not outcome.terminated[0] and self._steps == self.rows.limit
        seen = self.rows.observe(self._states)[0]
        return seen, float(outcome.rewards[0]), bool(outcome.terminated[0]), bool(truncated), info

    def render(self) -> np.ndarray | None:
        return self.rows.picture(self._states[0]) if self.render_mode == "rgb_array" else None


class RowVectorEnv(VectorEnv):
    """B rows stepped together, in SAME_STEP autoreset.

    Row i draws from a generator of its own, seeded with `seed + i`: it plays what `RowEnv` plays from that seed,
    whatever the other rows do. With `single_episode` a row whose episode has ended rests until the next reset: it stays
    where it is, gets nothing and costs nothing.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self, rows: Rows, num_envs: int, max_episode_steps: int | None = None, single_episode: bool = False
    ) -> None:
        self.rows, self.num_envs, self._single = rows, num_envs, single_episode
        self.single_observation_space, self.single_action_space = rows.observation_space, rows.action_space
        self.observation_space = batch_space(rows.observation_space, num_envs)
        self.action_space = batch_space(rows.action_space, num_envs)
        limits = [limit for limit in (rows.limit, max_episode_steps) if limit is not None]
        self._limit = min(limits, default=np.iinfo(np.int64).max)
        self._generators: list[np.random.Generator] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None or not self._generators:
            self._generators = [
                seeding.np_random(None if seed is None else (seed + row) % SEEDS)[0] for row in range(self.num_envs)
            ]
        self._steps = np.zeros(self.num_envs, np.int64)
        self._states = np.stack([self.rows.begin(generator) for generator in self._generators])
        self._playing: Any = slice(None)  # or the numbers of the rows that do
        return self._observe(), {}

    def step(self, actions: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        on, success = self._playing, None
        rewards, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        self._states[on], rewards[on], terminated[on], reached = self.rows.step(self._states[on], actions[on])
        if reached is not None:
            success = np.zeros(self.num_envs, bool)
            success[on] = reached
        self._steps[on] += 1
        truncated = (self._steps >= self._limit) & ~terminated
        observations = self._observe()
        ended = terminated | truncated
        info: dict[str, Any] = {}
        if ended.any():
            info["final_obs"] = observations
            info["final_info"] = {} if success is None else {"is_success": success, "_is_success": ended}
            self._steps[ended] = 0
            if self._single:
                self._playing = np.setdiff1d(np.arange(self.num_envs)[on], np.flatnonzero(ended))
                return observations, rewards, terminated, truncated, info
            for row in np.flatnonzero(ended):
                self._states[row] = self.rows.begin(self._generators[row])
            observations = self._observe()
        return observations, rewards, terminated, truncated, info

    def _observe(self) -> Any:
        """The agent's observations, in no array of the states, which change."""
        seen = self.rows.observe(self._states)
        return seen.copy() if np.may_share_memory(seen, self._states) else seen

    def save(self) -> dict[str, np.ndarray]:
        """All that the next steps depend on."""
        return {
            "states": self._states.copy(),
            "steps": self._steps.copy(),
            "generators": generator_state(self._generators),
        }

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `save` gave, after a reset."""
        self._states, self._steps = arrays["states"].copy(), arrays["steps"].copy()
        set_generator_state(self._generators, arrays["generators"])


def generator_state(generators: Sequence[np.random.Generator]) -> np.ndarray:
    """The state of generators as bytes, uint8 [L]: its numbers are too large for any other dtype."""
    return np.frombuffer(json.dumps([generator.bit_generator.state for generator in generators]).encode(), np.uint8)


def set_generator_state(generators: Sequence[np.random.Generator], state: np.ndarray) -> None:
    """Let generators go on from what `generator_state` gave."""
    for generator, own in zip(generators, json.loads(state.tobytes()), strict=True):
        generator.bit_generator.state = own


def register(name: str, rows: Callable[..., Rows], max_episode_steps: int | None = None) -> None:
    """Make the rows known to gymnasium, as one environment (`gym.make`) and as many (`envs.make`)."""

    def make_one(render_mode: str | None = None, **options: Any) -> RowEnv:
        return RowEnv(rows(**options), render_mode)

    # The options that it takes, for who looks them up.
    taken = [*inspect.signature(rows).parameters.values(), inspect.signature(make_one).parameters["render_mode"]]
    make_one.__signature__ = inspect.Signature([one.replace(kind=one.KEYWORD_ONLY) for one in taken])  # type: ignore[attr-defined]
    gym.register(name, entry_point=make_one, max_episode_steps=max_episode_steps)
    ROWS[name] = rows


ROWS: dict[str, Callable[..., Rows]] = {}

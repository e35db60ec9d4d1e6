"""Rollouts of a policy in an environment: the only code that steps an environment for training.

With it `rlab/sampling/vine.py` goes back to a state, and tries another action.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rlab.environments import EnvironmentFactory, VectorEnvironment
from rlab.errors import TrainingError, name_of
from rlab.ops import moments
from rlab.parallel import calls, heartbeat
from rlab.policies.actions import (
    ActingStep,
    PopulationStep,
    ToEnvironment,
    action_dtype,
    action_shape,
    shape_of,
    to_environment,
)
from rlab.seeding import derive
from rlab.state import pack, subset, unpack
from rlab.types import Branches, Episode, EpisodeBatch, State, Trajectory

_GLANCES = 8  # steps of play for a look at what an environment shows; more than frames are stacked
_FEWEST = 4  # members that act at once; to compile for fewer costs more than it spares
PATIENCE = 200_000  # agent steps without the end of an episode; the longest Atari game has 27,000


class Collector:
    """Steps one vector environment with one policy, a rollout at a time; episodes run on across rollouts.

    Args:
        env: B environments, SAME_STEP autoreset, as `envs.make` gives them.
        act: the compiled acting step of the policy.
        initial_state: the policy's empty memory for B environments.
        rollout_length: T, steps to a rollout.
        discount: γ in [0, 1].
        seed: of the actions; the environment brings its own.
        act_forced: the compiled acting step that is given its actions, where some are to be chosen.
        to_environment: the policy's actions [B, ...] as the environment takes them; None for what its space says.
    """

    def __init__(
        self,
        env: VectorEnvironment,
        act: ActingStep,
        initial_state: State,
        rollout_length: int,
        discount: float,
        seed: int,
        act_forced: ActingStep | None = None,
        to_environment: ToEnvironment | None = None,
    ) -> None:
        self._env, self.act, self.act_forced, self.state = env, act, act_forced, initial_state
        self._to_environment = to_environment or actions_of(env)
        self._length, self._discount, self.seed = rollout_length, discount, seed
        self.acts = 0
        self.observations, _ = _reset_environment(env)
        self.resets = np.ones(env.num_envs, np.float32)

    def save(self) -> dict[str, np.ndarray] | None:
        """All that the next rollouts depend on but the parameters; None where the environment cannot be saved."""
        inside = self._env.save_state()
        return None if inside is None else pack(self._own() | {"environment": inside})

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `save` gave."""
        self._env.load_state(subset(arrays, "environment"))
        found = unpack(self._own(), arrays)
        self.state = tf.nest.pack_sequence_as(self.state, list(found.pop("memory").values()))
        self.observations, self.resets, self.acts = found["observations"], found["resets"], found["acts"]

    def _own(self) -> dict[str, Any]:
        """The collector's own state, as named parts."""
        memory = {f"{i:03}": part for i, part in enumerate(tf.nest.flatten(self.state))}
        return {"memory": memory, "observations": self.observations, "resets": self.resets, "acts": self.acts}

    @property
    def env(self) -> VectorEnvironment:
        """The environment that is stepped."""
        return self._env

    def draw(self, params: Any, stream: int) -> np.ndarray:
        """Actions [B, ...] that the policy draws at the present observations, from a random stream by number."""
        seed = np.array([derive(self.seed, "draw", stream), self.acts], np.int32)
        return self.act(params, self.observations, self.state, self.resets, seed)[0].numpy()

    def collect(
        self, params: Any, length: int | None = None, first: np.ndarray | None = None
    ) -> tuple[Trajectory, list[Episode]]:
        """T steps under the parameters [D], or `length` of them, and the episodes that ended in them.

        The first actions may be given, [B, ...]; the others are drawn as if the policy had drawn those too.
        """
        T, B = length or self._length, self._env.num_envs
        observations = np.empty((T, *self.observations.shape), self.observations.dtype)
        resets, rewards, discounts, boundaries, values = np.empty((5, T, B), np.float32)
        next_values = np.zeros((T, B), np.float32)
        actions: list[np.ndarray] = []
        episodes: list[Episode] = []
        initial_state = self.state
        for t in range(T):
            observations[t], resets[t] = self.observations, self.resets
            action, value, self.state = self._act(params, self.observations, self.resets, first if t == 0 else None)
            actions.append(action.numpy())
            values[t] = value.numpy()
            self.observations, reward, terminated, truncated, info = _step_environment(
                self._env, self._to_environment(actions[t])
            )
            ended = terminated | truncated
            rewards[t], boundaries[t], self.resets = reward, ended, ended.astype(np.float32)
            discounts[t] = self._discount * (1.0 - terminated)
            if t == T - 1 or truncated.any():
                next_values[t] = self._bootstrap(params, ended, info) * (1.0 - terminated)
            if ended.any():
                episodes += finished_episodes(whole_ends(ended, info), info)
        # Where nothing ended, the next observation's value is already known.
        next_values[:-1] = np.where(boundaries[:-1] == 0.0, values[1:], next_values[:-1])
        trajectory = Trajectory(
            observations, resets, np.stack(actions), rewards, discounts, boundaries, values, next_values, initial_state
        )
        return trajectory, episodes

    def _act(
        self, params: Any, observations: np.ndarray, resets: np.ndarray, forced: np.ndarray | None = None
    ) -> tuple[Any, Any, State]:
        self.acts += 1  # once for each step, whatever ends meanwhile: copies may be dealt to several processes
        if forced is not None:
            assert self.act_forced is not None
            return self.act_forced(params, observations, self.state, resets, forced)
        return self.act(params, observations, self.state, resets, np.array([self.seed, self.acts], np.int32))

    def _bootstrap(self, params: Any, ended: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """V of the observations before any reset, float32 [B]; the memory is read and not changed."""
        observations = self.observations
        if ended.any():
            rows = ended.reshape(-1, *[1] * (observations.ndim - 1))
            observations = np.where(rows, info["final_obs"], observations)
        seed = np.zeros(2, np.int32)  # the action is not taken
        _, values, _ = self.act(params, observations, self.state, np.zeros_like(self.resets), seed)
        return values.numpy()


def background(make: EnvironmentFactory, seed: int) -> float:
    """The brightness of an environment's images that half of the pixels reach at most, in some steps of random play."""
    with heartbeat.stepping(heartbeat.START):
        env = make(num_envs=1, seed=seed)
    try:
        _reset_environment(env)
        env.action_space.seed(seed)
        seen = [_step_environment(env, env.action_space.sample())[0] for _ in range(_GLANCES)]
    finally:
        calls.close_all([env])
    # Stacked frames of the first steps are partly blank.
    return float(np.median(np.asarray(seen[_GLANCES // 2 :], np.float32)))


def blank(policy: Any, length: int, rows: int) -> Trajectory:
    """A trajectory [T, B] of zeros, of the shapes and dtypes that a Collector gives for this policy."""
    observations, actions = policy.observation_space, policy.action_space
    numbers = np.zeros((length, rows), np.float32)
    found = dict.fromkeys(Trajectory._fields, numbers) | {
        "observations": np.zeros((length, rows, *shape_of(observations)), observations.dtype),
        "actions": np.zeros((length, rows, *action_shape(actions)), action_dtype(actions)),
        "state": policy.initial_state(rows),
    }
    return Trajectory(**found)


def join(parts: Sequence[tuple[Trajectory, Branches | None]]) -> tuple[Trajectory, Branches | None]:
    """The trajectories of all ranks as one [T, B], B over all of them, with the branches from their steps."""
    trajectories, branches = [one for one, _ in parts], [some for _, some in parts if some]
    names = [name for name in Trajectory._fields if name != "state"]
    whole = {name: np.concatenate([getattr(one, name) for one in trajectories], axis=1) for name in names}
    state = tf.nest.map_structure(lambda *rows: np.concatenate(rows), *(one.state for one in trajectories))
    if not branches:
        return Trajectory(**whole, state=state), None
    width, first, steps = whole["resets"].shape[1], 0, []
    for one, some in zip(trajectories, branches, strict=True):
        rows = one.resets.shape[1]
        time, row = np.divmod(some.steps, rows)
        steps.append((time * width + first + row).astype(np.int32))
        first += rows
    actions, values = (np.concatenate([getattr(some, name) for some in branches], 1) for name in ("actions", "values"))
    return Trajectory(**whole, state=state), Branches(np.concatenate(steps), actions, values, branches[0].sampled)


def play_batch(
    env: VectorEnvironment,
    act: ActingStep,
    initial_state: State,
    params: Any,
    seed: int,
    actions_seed: int,
    chunk: int,
    to_environment: ToEnvironment | None = None,
) -> tuple[EpisodeBatch, list[Episode]]:
    """One whole episode of each of the environment's B copies: the batch, and the episodes in the order of the copies.

    `seed` is that of the fresh reset, `actions_seed` that of the actions; `chunk` is C of the batch; `to_environment`
    is as of `Collector`. Raises TrainingError when an episode does not end.
    """
    observations, _ = _reset_environment(env, seed)
    to_environment = to_environment or actions_of(env)
    B = env.num_envs
    seen: list[np.ndarray] = []
    actions: list[np.ndarray] = []
    rewards, valid, states = [], [], []
    finished: list[Episode | None] = [None] * B
    state, resets = initial_state, np.ones(B, np.float32)
    alive = np.ones(B, bool)
    while alive.any() or len(seen) % chunk:
        t = len(seen)
        if t >= PATIENCE:
            raise _endless(env)
        if t % chunk == 0:
            states.append(state)
        seen.append(observations)
        valid.append(alive.astype(np.float32))
        if not alive.any():  # only what fills the last chunk is missing
            actions.append(actions[-1])
            rewards.append(np.zeros(B, np.float32))
            continue
        action, _, state = act(params, observations, state, resets, np.array([actions_seed, t], np.int32))
        resets = np.zeros(B, np.float32)
        actions.append(action.numpy())
        observations, reward, terminated, truncated, info = _step_environment(env, to_environment(actions[-1]))
        rewards.append(np.where(alive, reward, 0.0).astype(np.float32))
        ending = alive & (terminated | truncated)
        if ending.any():
            for row, episode in zip(np.flatnonzero(ending), finished_episodes(ending, info), strict=True):
                finished[row] = episode
        alive &= ~ending
    resets = np.zeros((len(seen), B), np.float32)
    resets[0] = 1.0
    batch = EpisodeBatch(np.stack(seen), resets, np.stack(actions), np.stack(rewards), np.stack(valid), states)
    return batch, [episode for episode in finished if episode is not None]


class Evaluation(NamedTuple):
    """The result of a group of members, over E episodes of each."""

    returns: np.ndarray  # float64 [G, E]
    fitness: np.ndarray  # float64 [G, E]; the returns, or the sums of learned rewards
    lengths: np.ndarray  # int64 [G, E], steps
    seen: moments.Moments | None  # of the observations on which they acted


def evaluate_members(
    env: VectorEnvironment,
    act: PopulationStep,
    initial_state: State,
    params: Any,
    seed: int,
    actions_seed: int,
    features: int = 0,
    stopping: Callable[[], bool] = lambda: False,
    to_environment: ToEnvironment | None = None,
) -> Evaluation | None:
    """One whole episode of each of the environment's G · E copies, under the members' parameters as `act` takes them.

    A member that has played its episodes stops acting: each time that half of those acting have ended, the others go on
    by themselves (and best in an environment whose copies rest then, `single_episode` of `envs.make`).

    `seed` is that of the fresh reset, `actions_seed` that of the actions; of `features` numbers of each observation the
    moments are taken; `to_environment` is as of `Collector`. None once `stopping()`; raises TrainingError when an
    episode does not end.
    """
    seen_at, _ = _reset_environment(env, seed)
    to_environment = to_environment or actions_of(env)
    G, B = len(tf.nest.flatten(params)[0]), env.num_envs
    returns, fitness, lengths = np.zeros(B), np.zeros(B), np.zeros(B, np.int64)
    alive = np.ones((G, B // G), bool)
    members, rows = np.arange(G), np.arange(B)  # who act, and where
    seeds = np.stack([actions_seed + members, np.zeros(G, np.int64)], axis=1).astype(np.int32)
    state, resets = initial_state, np.ones(B, np.float32)
    actions: np.ndarray | None = None
    seen = moments.empty(features) if features else None
    for t in range(PATIENCE):
        if stopping():
            return None
        if seen:
            seen = moments.merge(seen, moments.of_rows(seen_at[alive.ravel()].reshape(-1, features)))
        seeds[:, 1] = t
        acted, state = act(params, seen_at[rows], state, resets, seeds)
        if actions is None:
            actions = acted.numpy().copy()
        actions[rows] = acted.numpy()
        seen_at, _, terminated, truncated, info = _step_environment(env, to_environment(actions))
        ending = alive.ravel() & (terminated | truncated)
        if ending.any():
            returns[ending], lengths[ending] = info["episode"]["r"][ending], info["episode"]["l"][ending]
            fitness[ending] = info.get("rewarded", info["episode"]["r"])[ending]
            alive &= ~ending.reshape(alive.shape)
            if not alive.any():
                return Evaluation(returns.reshape(G, -1), fitness.reshape(G, -1), lengths.reshape(G, -1), seen)
            kept = _narrowed(np.any(alive[members], axis=1))
            if len(kept) < len(members):
                members, seeds = members[kept], seeds[kept]
                rows = np.arange(B).reshape(G, -1)[members].ravel()
                params, state = tf.nest.map_structure(functools.partial(tf.gather, indices=kept), (params, state))
        resets = np.zeros(len(rows), np.float32)
    raise _endless(env)


def _narrowed(playing: np.ndarray) -> np.ndarray:
    """The numbers of the members [G] that act on: those that play, and others to make up G/2ᵏ, compiled once each."""
    size = len(playing)
    while size % 2 == 0 and size > _FEWEST and playing.sum() <= size // 2:
        size //= 2
    return np.sort(np.argsort(~playing, kind="stable")[:size])


def random_observations(env: VectorEnvironment, count: int, spacing: int, seed: int) -> np.ndarray:
    """Observations [count, ...] from random actions: of each of the environment's copies one in `spacing` steps."""
    observations, _ = env.reset()
    space, found = env.single_action_space, list[np.ndarray]()
    space.seed(seed)
    while len(found) * env.num_envs < count:
        for _ in range(spacing):
            observations, *_ = env.step(np.stack([space.sample() for _ in range(env.num_envs)]))
        found.append(observations.copy())
    return np.concatenate(found)[:count]


def _step_environment(env: VectorEnvironment, actions: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
    """A step of the environment."""
    with heartbeat.stepping():
        return env.step(actions)


def actions_of(env: VectorEnvironment) -> ToEnvironment:
    """A new policy's actions [B, ...] as the environment takes them."""
    return functools.partial(to_environment, space=env.single_action_space)


def _reset_environment(env: VectorEnvironment, seed: int | None = None) -> tuple[Any, dict[str, Any]]:
    """Begin the environment's episodes, which may take longer than a step."""
    with heartbeat.stepping(heartbeat.RESET):
        return env.reset(seed=seed)


def finished_episodes(ended: np.ndarray, info: dict[str, Any]) -> list[Episode]:
    """The episodes that ended in a step, in the order of the environments."""
    scores, lengths = info["episode"]["r"], info["episode"]["l"]
    return [Episode(float(scores[i]), int(lengths[i]), success_of(info, i)) for i in np.flatnonzero(ended).tolist()]


def whole_ends(ended: np.ndarray, info: dict[str, Any]) -> np.ndarray:
    """The mask of ends that are those of whole games, whose scores count, and not of a life; bool [B]."""
    return ended & info.get("_episode", True)


def success_of(info: dict[str, Any], row: int) -> float | None:
    """The `is_success` that environment `row`, whose episode ended, reports; None where it gives none, or no number.

    gymnasium's mask `_is_success` says which environments gave the value; one array serves them all.
    """
    final = info if info.get("final_info") is None else info["final_info"]
    try:
        if not isinstance(final, dict):  # one dictionary for each environment
            final, row = {name: [value] for name, value in dict(final[row] or {}).items()}, 0
        values, given = final.get("is_success"), final.get("_is_success")
        if values is None or (given is not None and not given[row]):
            return None
        array = np.asarray(values[row])
        value = float(array.item()) if array.dtype.kind in "biuf" else np.nan
    except (TypeError, ValueError, IndexError):
        return None
    return value if np.isfinite(value) else None


def _endless(env: VectorEnvironment) -> TrainingError:
    return TrainingError(
        f"an episode of environment {name_of(env)} did not end in {PATIENCE:,} steps: it needs a time limit"
    )

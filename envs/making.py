"""From a name, or a factory, to a vector environment."""

import functools
import inspect
import numbers
import re
from collections.abc import Callable
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from envs import saving
from envs.atari import ATARI_HELP, ATARI_OPTIONS, atari_games, make_atari
from envs.registration import ROWS
from envs.rows import RowVectorEnv
from envs.wrappers import ObserveReward, SameStep, SingleEpisode
from rlab.errors import BadInputError, nearest

# Parts of entry points: ale-py's single games are reached through `make_atari`, the others need old packages.
_UNLISTED = ("ale_py", "shimmy")
_EXTRAS = ("box2d", "mujoco")  # parts of entry points, and what the project calls the packages that these need
Factory = Callable[..., gym.Env]


def make(
    name_or_factory: str | Factory,
    num_envs: int = 1,
    seed: int = 0,
    *,
    asynchronous: bool | str = False,
    observe_reward: bool = False,
    restorable: bool = False,
    single_episode: bool = False,
    **kwargs: Any,
) -> VectorEnv:
    """A vector environment of `num_envs` copies, each seeded from `seed`, in SAME_STEP autoreset.

    Args:
        name_or_factory: an Atari game in any spelling (`Pong`, `pong`, `ALE/Pong-v5`), any gymnasium id, or a callable
            that returns a `gymnasium.Env`.
        num_envs: copies that step together, at least 1.
        seed: seeds the first `reset()` that is called without a seed.
        asynchronous: run each copy in a process of its own, for slow environments that have no vector implementation;
            `"spawn"` for processes that share no library with this one.
        observe_reward: put the last reward at the end of each observation, which must be a vector; 0 at a start.
        restorable: make it such that `save_state` and `load_state` work; Atari games then play one after another.
        single_episode: let each copy play one episode after a seeded reset and then rest, which costs nothing; Atari
            games in C++ play on.
        kwargs: given to the environment; for Atari games those of `envs.ATARI_OPTIONS`.

    Raises:
        BadInputError: an unknown name (the nearest are named), a count that is not positive, an unknown keyword, a
            reward beside observations that are no vectors, or a state that cannot be saved and restored but should.
    """
    if not isinstance(num_envs, numbers.Integral) or num_envs < 1:
        raise BadInputError(f"the number of environments must be at least 1, not {num_envs!r}")
    if isinstance(name_or_factory, str):
        name = resolve(name_or_factory)
        _check_keywords(name, kwargs)
        made = _make_named(name, num_envs, asynchronous, restorable, single_episode, kwargs)
        env = SameStep(made, seed, _limit(name, kwargs))
    elif not callable(name_or_factory):
        raise BadInputError(
            f"an environment cannot be {name_or_factory!r}; give a name, or a callable that returns a gymnasium.Env"
        )
    else:
        factory = functools.partial(_one, name_or_factory, **kwargs)
        env = SameStep(_vectorise(factory, num_envs, asynchronous, single_episode), seed)
    if restorable and not env.can_save:
        env.close()
        raise BadInputError(
            f"the state of environment {name_or_factory!r} cannot be saved and restored; that of {saving.SAVABLE} can"
        )
    return ObserveReward(env) if observe_reward else env


def resolve(name: str) -> str:
    """The canonical name: an Atari game as `Pong`, anything else as its gymnasium id. Raises BadInputError."""
    games = atari_games()
    key = re.sub(r"^ale/|-v5$|[_*\s-]", "", name.lower())
    if key in games:
        return games[key]
    by_lower = {id_.lower(): id_ for id_ in gym.registry}
    if name in gym.registry or name.lower() in by_lower:
        return name if name in gym.registry else by_lower[name.lower()]
    raise BadInputError(f"unknown environment {name!r}{nearest(name, names())}")


def is_atari(name: str) -> bool:
    """Whether a canonical name is that of an Atari game."""
    return name in atari_games().values()


def names() -> list[str]:
    """The Atari games, then gymnasium's own environments in their newest versions (some need their packages)."""
    newest: dict[str, gym.envs.registration.EnvSpec] = {}
    for spec in gym.registry.values():
        known = newest.get(spec.name)
        usable = spec.namespace is None and not any(word in str(spec.entry_point) for word in _UNLISTED)
        if usable and (known is None or (spec.version or 0) > (known.version or 0)):
            newest[spec.name] = spec
    return [*atari_games().values(), *sorted(spec.id for spec in newest.values())]


def options(name: str) -> dict[str, Any]:
    """The keyword arguments that an environment takes, with their defaults (no default: `inspect.Parameter.empty`)."""
    name = resolve(name)
    if is_atari(name):
        return dict(ATARI_OPTIONS)
    spec = gym.spec(name)
    entry = spec.entry_point if callable(spec.entry_point) else _load(str(spec.entry_point))
    parameters = inspect.signature(entry).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind != p.VAR_POSITIONAL}  # **kwargs: any option goes
    return {"max_episode_steps": spec.max_episode_steps, "observe_reward": False} | defaults | spec.kwargs


def option_help(name: str) -> dict[str, str]:
    """What the environment's options mean, where that is known."""
    name = resolve(name)
    if is_atari(name):
        return ATARI_HELP
    found = {
        "max_episode_steps": "steps after which an episode is truncated",
        "observe_reward": "put the last reward at the end of each observation",
    }
    if name in ROWS:  # the `Args:` of its docstring, a line or two each
        described = inspect.getdoc(ROWS[name]) or ""
        _, _, arguments = described.partition("Args:\n")
        for argument, text in re.findall(r"^ {4}(\w+): ((?:.|\n {8})+)", arguments, re.MULTILINE):
            found[argument] = " ".join(text.split()).rstrip(".")
    return found


def _make_named(
    name: str, num_envs: int, asynchronous: bool | str, restorable: bool, single_episode: bool, kwargs: dict[str, Any]
) -> VectorEnv:
    if is_atari(name):
        return make_atari(name, num_envs, restorable, **kwargs)
    spec = gym.spec(name)
    rows = ROWS.get(name)
    given = {key: value for key, value in kwargs.items() if key != "max_episode_steps"}
    if rows and not asynchronous and given.keys() <= inspect.signature(rows).parameters.keys():
        limit = kwargs.get("max_episode_steps", spec.max_episode_steps)
        return RecordEpisodeStatistics(RowVectorEnv(rows(**given), num_envs, limit, single_episode))
    try:
        return _vectorise(functools.partial(gym.make, name, **kwargs), num_envs, asynchronous, single_episode)
    except Exception as error:  # what a wrong option makes the environment's constructor raise is its own affair
        raise BadInputError(f"environment {name!r} cannot be made: {type(error).__name__}: {error}") from error


def _limit(name: str, kwargs: dict[str, Any]) -> int | None:
    """Steps after which the named environment truncates an episode; None where it has no such limit."""
    if is_atari(name):
        chosen = ATARI_OPTIONS | kwargs
        return chosen["max_frames"] // chosen["frame_skip"]
    limits = [kwargs.get("max_episode_steps", gym.spec(name).max_episode_steps)]
    if name in ROWS:
        given = {key: value for key, value in kwargs.items() if key in inspect.signature(ROWS[name]).parameters}
        limits.append(ROWS[name](**given).limit)
    return min((limit for limit in limits if limit is not None), default=None)


def _one(factory: Factory, **kwargs: Any) -> gym.Env:
    """What the factory makes; raises BadInputError where that is not a single environment."""
    made = factory(**kwargs)
    if not isinstance(made, gym.Env):
        name = getattr(factory, "__name__", factory)
        raise BadInputError(f"environment {name!r} made a {type(made).__name__}, and not a single gymnasium.Env")
    return made


def _vectorise(
    factory: Callable[[], gym.Env], num_envs: int, asynchronous: bool | str, single_episode: bool
) -> VectorEnv:
    copy = (lambda: SingleEpisode(factory())) if single_episode else factory
    vector: Any = SyncVectorEnv
    if asynchronous:
        vector = functools.partial(AsyncVectorEnv, context=asynchronous if isinstance(asynchronous, str) else None)
    made = vector([copy] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    return RecordEpisodeStatistics(made)


def _check_keywords(name: str, kwargs: dict[str, Any]) -> None:
    known = options(name)
    limit = kwargs.get("max_episode_steps")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise BadInputError(f"max_episode_steps must be at least 1, not {limit}")
    for key in kwargs:
        if key not in known and "kwargs" not in known:
            raise BadInputError(f"environment {name!r} has no option {key!r}{nearest(key, known)}")


def _load(entry_point: str) -> Callable[..., Any]:
    try:
        return gym.envs.registration.load_env_creator(entry_point)
    except (ImportError, gym.error.Error) as error:
        needed = [extra for extra in _EXTRAS if f".{extra}." in entry_point]
        here = f"; from here, `pip install -e '.[{needed[0]}]'`" if needed else ""
        raise BadInputError(f"the environment {entry_point!r} cannot be loaded: {error}{here}") from error

"""The construction of a vector environment from a name or a factory."""

import contextlib
import functools
import inspect
import re
import warnings
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from envs import games, snapshots
from envs.atari import ATARI_HELP, ATARI_OPTIONS, make_atari
from envs.batched import RowVectorEnv
from envs.contract import Conformed, conform
from envs.copies import Copy, SingleEpisode
from envs.games import atari_games
from envs.registration import ROWS
from envs.wrappers import ObserveReward
from rlab.environments import GIVEN, WAYS
from rlab.errors import BadInputError, called, cannot_be_made, nearest
from rlab.seeding import check_seed

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
    filmed: bool = False,
    **kwargs: Any,
) -> Conformed | ObserveReward:
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
        filmed: make it such that its pictures can be taken, as `envs.make_filmed` does; Atari games are filmed there.
        kwargs: given to the environment; for Atari games those of `envs.ATARI_OPTIONS`.

    Raises:
        BadInputError: an unknown name (the nearest are named), a count that is not positive, an unknown keyword, a
            reward beside observations that are no vectors, or a state that cannot be saved and restored but should.
    """
    if not isinstance(num_envs, int | np.integer) or num_envs < 1:
        raise BadInputError(f"the number of environments must be at least 1, not {num_envs}")
    seed, ways = check_seed(seed), _Ways(asynchronous, single_episode, filmed)
    if isinstance(name_or_factory, str):
        name = resolve(name_or_factory)
        _check_keywords(name, kwargs)
        made = _make_named(name, num_envs, restorable, ways, kwargs)
        shown = ATARI_OPTIONS | kwargs if is_atari(name) else {}
        learned = {key: bool(shown.get(key)) for key in ("clip_rewards", "life_loss")}
        env = conform(made, name, seed, num_envs, episode_limit=_limit(name, kwargs), **learned)
    elif callable(name_or_factory):
        name = _called(name_or_factory)
        factory = functools.partial(name_or_factory, **kwargs)
        made = _vectorise(name, factory, num_envs, ways)
        if name == "<lambda>" and isinstance(made, SyncVectorEnv):
            name = type(made.envs[0].unwrapped).__qualname__
        env = conform(made, name, seed, num_envs)
    else:
        raise BadInputError(f"an environment is named, or made by a callable, not by {name_or_factory!r:.80}")
    if restorable and not env.can_save:
        env.close()
        raise BadInputError(
            f"the state of environment {name_or_factory!r} cannot be saved and restored; that of "
            f"{snapshots.SAVABLE} can"
        )
    return ObserveReward(env) if observe_reward else env


def resolve(name: str) -> str:
    """The canonical name: an Atari game as `Pong`, anything else as its gymnasium id. Raises BadInputError."""
    if game := games.find(name):
        games.say_convention(name)
        return game
    by_lower = {id_.lower(): id_ for id_ in gym.registry}
    if name in gym.registry or name.lower() in by_lower:
        return name if name in gym.registry else by_lower[name.lower()]
    near = nearest(name, names()) or "; `python -m launch list` shows those there are"
    raise BadInputError(f"unknown environment {name!r}{near}")


def is_atari(name: str) -> bool:
    """Tell whether a canonical name is that of an Atari game."""
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


def require_options(names: Iterable[str], besides: Collection[str] = ()) -> None:
    """Raise BadInputError for an option that is named as an argument of `make` itself, but for those `besides`."""
    for name in sorted({*GIVEN, *WAYS}.intersection(names).difference(besides)):
        raise BadInputError(f"{name!r} is no option of an environment")


def option_help(name: str) -> dict[str, str]:
    """The meaning of each of the environment's options, where it is known."""
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


class _Ways(NamedTuple):
    """The ways to run copies, as `make` takes them."""

    asynchronous: bool | str
    single_episode: bool
    filmed: bool


def _make_named(name: str, num_envs: int, restorable: bool, ways: _Ways, kwargs: dict[str, Any]) -> VectorEnv:
    if is_atari(name):
        return make_atari(name, num_envs, restorable, **kwargs)
    spec = gym.spec(name)
    rows = ROWS.get(name)
    given = {key: value for key, value in kwargs.items() if key != "max_episode_steps"}
    if rows and not ways.asynchronous and not ways.filmed and given.keys() <= inspect.signature(rows).parameters.keys():
        limit = kwargs.get("max_episode_steps", spec.max_episode_steps)
        return RowVectorEnv(rows(**given), num_envs, limit, ways.single_episode)
    return _vectorise(
        name, functools.partial(gym.make, name, disable_env_checker=ways.filmed or None, **kwargs), num_envs, ways
    )


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


def _vectorise(name: str, factory: Callable[[], Any], num_envs: int, ways: _Ways) -> VectorEnv:
    vector: Any = SyncVectorEnv
    if ways.asynchronous:
        context = ways.asynchronous if isinstance(ways.asynchronous, str) else None
        vector = functools.partial(AsyncVectorEnv, context=context)
    copies = [functools.partial(_copy, factory, i, ways) for i in range(num_envs)]
    made = functools.partial(vector, copies, autoreset_mode=AutoresetMode.SAME_STEP)
    return called(made, functools.partial(cannot_be_made, name), ours=())


def _copy(factory: Callable[..., Any], number: int, ways: _Ways) -> gym.Env:
    env = _rendering(factory) if ways.filmed else factory()
    if not isinstance(env, gym.Env):
        kind = f"{type(env).__module__}.{type(env).__qualname__}"
        raise BadInputError(f"its factory must give a gymnasium.Env, not {kind}")
    return Copy(SingleEpisode(env) if ways.single_episode else env, number, ways.filmed)


def _rendering(factory: Callable[..., Any]) -> Any:
    """An environment that renders arrays, also where its class takes no `render_mode`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # gymnasium's, where the metadata do not name the mode
            return factory(render_mode="rgb_array")
    except TypeError:  # if something else is amiss, it raises again
        env = factory()
    bare = getattr(env, "unwrapped", env)
    if getattr(bare, "render_mode", None) is None:
        with contextlib.suppress(Exception):  # it may be a property
            bare.render_mode = "rgb_array"
    return env


def _called(factory: Any) -> str:
    """A name for the environments that a factory makes."""
    while isinstance(factory, functools.partial):
        factory = factory.func
    return str(getattr(factory, "__qualname__", type(factory).__qualname__)).rpartition("<locals>.")[2]


def _check_keywords(name: str, kwargs: dict[str, Any]) -> None:
    known = options(name)
    limit = kwargs.get("max_episode_steps")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise BadInputError(f"max_episode_steps must be a whole number, at least 1, not {limit!r}")
    for key, value in kwargs.items():
        if key not in known and "kwargs" not in known:
            raise BadInputError(f"environment {name!r} has no option {key!r}{nearest(key, known)}")
        if isinstance(value, bool) and type(known.get(key)) in (int, float):
            raise BadInputError(f"{key} must be a number, not {value}")


def _load(entry_point: str) -> Callable[..., Any]:
    try:
        return gym.envs.registration.load_env_creator(entry_point)
    except (ImportError, gym.error.Error) as error:
        needed = [extra for extra in _EXTRAS if f".{extra}." in entry_point]
        here = f"; from here, `pip install -e '.[{needed[0]}]'`" if needed else ""
        raise BadInputError(f"the environment {entry_point!r} cannot be loaded: {error}{here}") from error

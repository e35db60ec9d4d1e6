"""Atari games, preprocessed in C++ by ale-py, many at a time."""

import functools
from typing import Any

import ale_py.roms
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from envs.restorable_atari import EmulatedGame
from rlab.errors import BadInputError

# Each step of the preprocessing with its default, its meaning and its source. Mnih 2015 is "Human-level control through
# deep reinforcement learning", Methods; Machado 2018 is "Revisiting the Arcade Learning Environment".
_OPTIONS: dict[str, tuple[Any, str]] = {
    "frame_size": (84, "pixels a side, of grey frames (Mnih 2015, Preprocessing)"),
    "frame_stack": (4, "frames in an observation (Mnih 2015, m = 4)"),
    "frame_skip": (4, "emulator frames an action is repeated for (Mnih 2015, Training details)"),
    "max_pool": (True, "maximum over the last two frames, against flicker (Mnih 2015, Preprocessing)"),
    "noop_max": (30, "up to so many no-op frames at a start (Mnih 2015, Evaluation procedure)"),
    "fire_reset": (True, "press fire at a start where the game waits for it (OpenAI baselines, FireResetEnv)"),
    "clip_rewards": (True, "to [-1, 1] for learning; the score stays true (Mnih 2015, Training details)"),
    "life_loss": (False, "end an episode at a lost life, and play on (Mnih 2015, Training details)"),
    "sticky_actions": (0.0, "probability of repeating the last action (Machado 2018, section 5.2: 0.25)"),
    "full_actions": (False, "all 18 actions in place of the game's own (Machado 2018, section 5.1)"),
    "max_frames": (108_000, "emulator frames to an episode, 30 minutes (Machado 2018, table 5)"),
    "threads": (1, "emulation threads; A3C's workers are threads already"),
}
ATARI_OPTIONS: dict[str, Any] = {name: default for name, (default, _) in _OPTIONS.items()}
ATARI_HELP = {name: text for name, (_, text) in _OPTIONS.items()}


class Games(AtariVectorEnv):
    """ale-py's vector environment with `info["life_lost"]`, bool [B]: an end is that of a life, and the game goes on.

    ale-py ends an episode there with `life_loss_info`; with `episodic_life` it begins a new game each time.
    """

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observations, info = super().reset(seed=seed, options=options)
        self._lives, self._frame = info["lives"].copy(), info["episode_frame_number"].copy()
        return observations, info

    def step(self, actions: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, terminations, truncations, info = super().step(actions)
        lives, frame = info["lives"], info["episode_frame_number"]
        info["life_lost"] = terminations & (lives < self._lives) & (frame > self._frame)
        self._lives, self._frame = lives.copy(), frame.copy()
        return observations, rewards, terminations, truncations, info


def make_atari(game: str, num_envs: int, restorable: bool = False, **options: Any) -> VectorEnv:
    """The named game (`MsPacman`); observations uint8 [B, frame_stack, frame_size, frame_size], actions Discrete."""
    return _restorable(game, num_envs, options) if restorable else _emulator(game, num_envs, options)


def make_colour_twin(game: str, **options: Any) -> VectorEnv:
    """The same single game under the same seeds and actions, seen as a person does: uint8 [1, 1, 210, 160, 3]."""
    return _emulator(game, 1, options, grayscale=False, stack_num=1, img_height=210, img_width=160)


def _restorable(game: str, num_envs: int, options: dict[str, Any]) -> SyncVectorEnv:
    one = functools.partial(EmulatedGame, _rom(game), _chosen(options))
    return SyncVectorEnv([one] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def _chosen(options: dict[str, Any]) -> dict[str, Any]:
    """All options, checked."""
    unknown = options.keys() - ATARI_OPTIONS.keys()
    if unknown:
        raise BadInputError(f"Atari games have no option {sorted(unknown)[0]!r}")
    chosen = ATARI_OPTIONS | options
    _check(chosen)
    return chosen


def _emulator(game: str, num_envs: int, options: dict[str, Any], **overrides: Any) -> Games:
    chosen = _chosen(options)
    settings = {
        "img_height": chosen["frame_size"],
        "img_width": chosen["frame_size"],
        "stack_num": chosen["frame_stack"],
        "frameskip": chosen["frame_skip"],
        "maxpool": chosen["max_pool"],
        "noop_max": chosen["noop_max"],
        "use_fire_reset": chosen["fire_reset"],
        "life_loss_info": chosen["life_loss"],
        "repeat_action_probability": chosen["sticky_actions"],
        "full_action_space": chosen["full_actions"],
        "max_num_frames_per_episode": chosen["max_frames"],
        "num_threads": chosen["threads"],
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "reward_clipping": False,
    }
    return Games(_rom(game), num_envs, **(settings | overrides))


def _rom(game: str) -> str:
    """ale-py's own name of a game: `MsPacman` -> `ms_pacman`."""
    return next(rom for rom in ale_py.roms.get_all_rom_ids() if rom.replace("_", "") == game.lower())


def _check(options: dict[str, Any]) -> None:
    for key, default in ATARI_OPTIONS.items():
        value = options[key]
        if isinstance(default, bool):
            right, wanted = isinstance(value, bool | int) and value in (0, 1), "true or false"
        elif key == "sticky_actions":
            right, wanted = isinstance(value, int | float) and 0.0 <= value <= 1.0, "a probability in [0, 1]"
        else:
            least = 0 if key == "noop_max" else 1
            right, wanted = isinstance(value, int) and least <= value < 2**31, f"a whole number, at least {least}"
        if not right:
            raise BadInputError(f"{key} must be {wanted}, not {value!r}")

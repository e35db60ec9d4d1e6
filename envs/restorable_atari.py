"""One Atari game at a time, whose state can be saved and restored; `envs.atari` plays faster, and forgets."""

import functools
from typing import Any

import ale_py
import ale_py.roms
import gymnasium as gym
import numpy as np
from ale_py import Action, ALEInterface, ALEState, LoggerMode

from envs.batched import generator_state, set_generator_state


class EmulatedGame(gym.Env):
    """A game preprocessed as `envs.atari` has it preprocessed in C++.

    Grey levels may differ by one, from rounding, and an episode's last frame is its last: in C++ it is one before.

    Args:
        rom: ale-py's own name of the game.
        options: all of `envs.ATARI_OPTIONS`, checked; `threads` and `clip_rewards` are for whoever runs many.
    """

    def __init__(self, rom: str, options: dict[str, Any]) -> None:
        self._path, self._options = str(ale_py.roms.get_rom_path(rom)), options
        ALEInterface.setLoggerMode(LoggerMode.Error)  # it greets otherwise
        self._ale = ALEInterface()
        # `_act` repeats the last action: a saved emulator forgets which that was.
        self._ale.setFloat("repeat_action_probability", 0.0)
        self._load(0)
        actions = self._ale.getLegalActionSet() if options["full_actions"] else self._ale.getMinimalActionSet()
        self._actions = list(actions)
        size = options["frame_size"]
        self._frames = np.zeros((options["frame_stack"], size, size), np.uint8)
        self.observation_space = gym.spaces.Box(0, 255, self._frames.shape, np.uint8)
        self.action_space = gym.spaces.Discrete(len(self._actions))
        self._lives, self._last, self._life_lost = 0, Action.NOOP, False

    def _load(self, seed: int) -> None:
        self._ale.setInt("random_seed", seed % 2**31)
        self._ale.loadROM(self._path)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if self._life_lost and seed is None:  # the game goes on
            self._life_lost = False
            return self._frames.copy(), {}
        self._life_lost = False
        if seed is not None:
            self._load(seed)
            self._last = Action.NOOP
        self._ale.reset_game()
        fires = self._options["fire_reset"] and Action.FIRE in self._actions
        if fires:
            self._act(Action.FIRE)
        for _ in range(self.np_random.integers(self._options["noop_max"] + 1) - fires):
            self._act(Action.NOOP)
            if self._ale.game_over():
                self._ale.reset_game()
        self._lives = self._ale.lives()
        self._frames[:] = 0
        self._frames[-1] = self._shrink(self._ale.getScreenGrayscale())
        return self._frames.copy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        chosen, skip = self._actions[int(action)], self._options["frame_skip"]
        reward, before, frame = 0.0, None, 0
        while frame < skip and not self._ale.game_over(with_truncation=False):
            if frame == skip - 1 and frame and self._options["max_pool"]:
                before = self._ale.getScreenGrayscale()
            reward += self._act(chosen)
            frame += 1
        screen = self._ale.getScreenGrayscale()
        self._frames[:-1] = self._frames[1:]
        self._frames[-1] = self._shrink(screen if before is None else np.maximum(screen, before))
        over = self._ale.game_over(with_truncation=False)
        lost, self._lives = self._ale.lives() < self._lives, self._ale.lives()
        truncated = self._ale.getEpisodeFrameNumber() >= self._options["max_frames"]
        self._life_lost = lost and not over and not truncated and bool(self._options["life_loss"])
        info = {"life_lost": True} if self._life_lost else {}
        return self._frames.copy(), reward, over or self._life_lost, truncated and not over, info

    def _act(self, action: Action) -> float:
        """Emulate one frame of an action, or of the last one again where actions are sticky; returns the reward."""
        sticky = self._options["sticky_actions"]
        if not sticky or self.np_random.random() >= sticky:
            self._last = action
        return self._ale.act(self._last)

    def save_state(self) -> dict[str, np.ndarray]:
        """All that the next steps depend on."""
        return {
            "emulator": np.frombuffer(self._ale.cloneState(include_rng=True).serialize(), np.uint8),
            "frames": self._frames.copy(),
            "game": np.array([self._lives, self._last.value]),
            "generator": generator_state([self.np_random]),
        }

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `save_state` gave."""
        self._ale.restoreState(ALEState(arrays["emulator"].tobytes()))
        self._frames[:] = arrays["frames"]
        lives, last = arrays["game"].tolist()
        self._lives, self._last = lives, Action(last)
        set_generator_state([self.np_random], arrays["generator"])

    def _shrink(self, screen: np.ndarray) -> np.ndarray:
        """Grey [210, 160] to [size, size], each pixel the mean of the area that it covers."""
        down, across = (_areas(length, self._options["frame_size"]) for length in screen.shape)
        return np.rint(down @ screen.astype(np.float32) @ across.T).astype(np.uint8)


@functools.cache
def _areas(length: int, size: int) -> np.ndarray:
    """The share that each of `size` pixels has of each of `length`, float32 [size, length], rows that sum to 1."""
    edges = np.linspace(0.0, length, size + 1)
    pixels = np.arange(length)
    shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(shared, 0.0) * size / length).astype(np.float32)

"""Episodes played with a policy: to their end, as it was trained, and in films to the last picture."""

import functools
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import toys
from imageio import v2 as imageio

import envs
from rlab import notify
from rlab.errors import BadInputError, TrainingError
from rlab.rewards.demonstrations import demonstrate
from rlab.sampling.evaluation import film_episodes, play_episodes, summarize
from rlab.types import Episode


class Always:
    """A policy that takes action 0, and keeps how it was asked to and when its memory was to begin anew."""

    def __init__(self, deterministic=False):
        self.deterministic, self.asked, self.resets = deterministic, set(), []

    def require_fit(self, env):
        pass

    def initial_state(self, batch):
        return ()

    def act(self, observations, state, reset, deterministic):
        self.asked.add(deterministic)
        self.resets.append(reset.tolist())
        return np.zeros(len(observations), int), state


FIVE = functools.partial(envs.make, toys.limited_constant)


@pytest.mark.parametrize(
    ("trained", "asked", "taken"), [(True, None, True), (False, None, False), (True, False, False)]
)
def test_a_policy_plays_as_it_was_trained_unless_told_otherwise(trained, asked, taken):
    policy = Always(trained)
    play_episodes(policy, FIVE, 2, 0, asked)
    demonstrate(policy, FIVE, 2, 0, asked)
    assert policy.asked == {taken}


@pytest.mark.parametrize(
    ("trained", "asked", "taken"), [(True, None, True), (False, None, False), (True, False, False)]
)
def test_a_film_is_played_as_was_trained_and_each_episode_begins_with_an_empty_memory(tmp_path, trained, asked, taken):
    policy = Always(trained)
    film_episodes(policy, envs.make_filmed(Shades, 0), tmp_path / "film.gif", 2, asked)
    assert policy.asked == {taken}
    assert policy.resets == [[1.0], [0.0], [0.0]] * 2


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_a_factory_of_ones_own_is_played(mode):
    def make_env(num_envs, seed):
        def single():
            return gym.wrappers.RecordEpisodeStatistics(toys.limited_constant())

        return gym.vector.SyncVectorEnv([single] * num_envs, autoreset_mode=mode)

    assert summarize(play_episodes(Always(), make_env, 3, 0)) == summarize(play_episodes(Always(), FIVE, 3, 0))


class OneEnds(toys.Constant):
    """Copies of which one ends every third step, and the other never."""

    def reset(self, *, seed=None, options=None):
        self._ends, self._time = self._ends if seed is None else seed % 2, 0
        return super().reset(seed=seed)

    def step(self, action):
        self._time += 1
        seen, reward, *_ = super().step(action)
        return seen, reward, bool(self._ends) and self._time == 3, False, {}


def test_an_endless_episode_is_named_and_said(monkeypatch, capsys):
    monkeypatch.setattr(notify, "WAIT_SECONDS", 1e-3)
    with pytest.raises(TrainingError, match=r"environment OneEnds did not end in 400 steps \(--max-steps\)") as told:
        play_episodes(Always(), functools.partial(envs.make, OneEnds), 2, 0, max_steps=400)
    assert "\n" not in str(told.value)
    said = capsys.readouterr().err
    assert "playing OneEnds: 1 of 2 episodes, the longest goes on since " in said
    assert " of at most 400 steps ... 0 s\n" in said


def test_an_episode_of_just_so_many_steps_is_played():
    policy = Always()
    # Ten environments at once, so that each plays two: the limit is an episode's and not the play's.
    assert summarize(play_episodes(policy, FIVE, 20, 0, max_steps=6))["mean_length"] == 5.0
    assert [reset[0] for reset in policy.resets] == [1.0, 0.0, 0.0, 0.0, 0.0] * 2


def test_a_summary_has_the_moments_of_all_episodes():
    episodes = [Episode(1.0, 4, None), Episode(3.0, 6, 1.0), Episode(8.0, 5, 0.0)]
    assert summarize(episodes) == {
        "episodes": 3,
        "mean_return": 4.0,
        "std_return": pytest.approx((26 / 3) ** 0.5),  # √(((1−4)² + (3−4)² + (8−4)²) / 3)
        "mean_length": 5.0,
        "success_rate": 0.5,
    }
    assert "success_rate" not in summarize(episodes[:1])


def test_the_environment_is_closed_when_the_play_fails():
    closed = []

    class Closing(toys.Failing):
        def close(self):
            closed.append(self)

    with pytest.raises(TrainingError, match=r"environment .*Closing, copy 0, step 50 .*the simulator broke"):
        play_episodes(Always(), functools.partial(envs.make, Closing), 2, 0)
    assert len(closed) == 2


class Shades(gym.Env):
    """Shows, and is filmed as, a grey that is 10 for each step; from an episode's start 100 for each episode."""

    observation_space, action_space = gym.spaces.Box(0, 1, (1,), np.float32), gym.spaces.Discrete(2)
    episodes = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episodes, self.time = self.episodes + 1, 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.zeros(1, np.float32), 1.0, self.time == 3, False, {}

    def render(self):
        return np.full((320, 320, 3), 100 * self.episodes + 10 * self.time - 50, np.uint8)


class ModalShades(Shades):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 7}  # noqa: RUF012

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def render(self):
        return super().render() if self.render_mode == "rgb_array" else None


@pytest.mark.parametrize("made", [Shades, ModalShades, lambda: Shades()])
def test_a_film_shows_the_last_picture_of_each_episode_and_then_the_first_of_the_next(tmp_path, made):
    out = tmp_path / "film.gif"
    assert film_episodes(Always(), envs.make_filmed(made, 0), out, 2) == [3.0, 3.0]
    shades = [int(frame[..., 0].mean().round()) for frame in imageio.mimread(out)]
    assert shades == [50, 60, 70, 80, 150, 160, 170, 180]
    speed = 7 if made is ModalShades else 30
    assert imageio.get_reader(out).get_meta_data()["duration"] == pytest.approx(1000 / speed, abs=10)  # GIF's unit
    assert list(tmp_path.iterdir()) == [out]


def test_an_environment_without_render_mode_can_be_filmed_by_its_name(tmp_path):
    gym.register("Shades-v0", Shades)
    try:
        film_episodes(Always(), envs.make_filmed("Shades-v0", 0), tmp_path / "film.gif", 1)
    finally:
        del gym.registry["Shades-v0"]
    assert len(imageio.mimread(tmp_path / "film.gif")) == 4


def test_a_film_of_a_game_has_its_last_picture(tmp_path):
    filmed = envs.make_filmed("Breakout", 3, max_frames=40)
    assert len(film_episodes(Always(), filmed, tmp_path / "film.gif", 2)) == 2
    assert filmed.last_frame().shape == (210, 160, 3)


def _showing(picture):
    class Showing(Shades):
        def render(self):
            return picture() if callable(picture) else picture

    return Showing


def _raise():
    raise ImportError("no pygame")


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (None, r"its render\(\) gives None, and no picture"),
        ("text", r"its render\(\) gives str, not uint8\[H, W, 3\]"),
        ([], r"gives float64\[0\]|gives list"),
        (np.zeros((4, 4, 7)), r"gives float64\[4, 4, 7\]"),
        (np.full((4, 4, 3), np.nan), "gives ndarray"),
        (_raise, "no pygame"),
        (lambda: sys.exit(3), "SystemExit: 3"),
    ],
)
def test_a_render_that_gives_no_picture_is_named_and_leaves_no_file(tmp_path, picture, message):
    with pytest.raises(BadInputError, match=f"cannot be filmed: .*{message}"):
        film_episodes(Always(), envs.make_filmed(_showing(picture), 0), tmp_path / "film.mp4", 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("broken", [1, 2])
def test_a_film_that_breaks_off_leaves_what_was_there(tmp_path, broken):
    out = tmp_path / "film.mp4"
    out.write_text("another")

    class Ending(Shades):
        def render(self):
            return super().render() if self.time < broken else None

    with pytest.raises(BadInputError, match="None, and no picture"):
        film_episodes(Always(), envs.make_filmed(Ending, 0), out, 1)
    assert out.read_text() == "another"
    assert list(tmp_path.iterdir()) == [out]


def test_a_film_of_pictures_of_other_sizes_is_refused(tmp_path, monkeypatch):
    class Growing(Shades):
        def render(self):
            return np.zeros((320 + 10 * self.time, 320, 3), np.uint8)

    writers, opened = [], imageio.get_writer

    def kept(*args, **kind):
        writers.append(opened(*args, **kind))
        return writers[0]

    monkeypatch.setattr(imageio, "get_writer", kept)
    with pytest.raises(TrainingError, match=r"must have one size, not .*320.*330"):
        film_episodes(Always(), envs.make_filmed(Growing, 0), tmp_path / "film.mp4", 1)
    assert not list(tmp_path.iterdir())
    assert writers[0].closed  # the program that draws the video has ended


@pytest.mark.parametrize("kind", [str, Path])
def test_a_film_that_cannot_be_written_is_named(tmp_path, kind):
    (tmp_path / "film.gif").mkdir()
    for name, told in [
        ("film.gif", "it is a directory"),
        ("film.txt", r"its name must end in \.mp4 or \.gif"),
        ("no/film.gif", "no is not a directory"),
    ]:
        policy = Always()
        with pytest.raises(BadInputError, match=rf"{name} cannot be written: .*{told}"):
            film_episodes(policy, envs.make_filmed(Shades, 0), kind(tmp_path / name), 1)
        assert not policy.asked
    film_episodes(Always(), envs.make_filmed(Shades, 0), kind(tmp_path / "whole.gif"), 1)
    assert (tmp_path / "whole.gif").is_file()


def test_a_file_that_is_barred_meanwhile_is_named(tmp_path):
    class Barring(Shades):
        def step(self, action):
            (tmp_path / "film.gif").mkdir(exist_ok=True)
            return super().step(action)

    with pytest.raises(BadInputError, match=r"film\.gif cannot be written: Is a directory"):
        film_episodes(Always(), envs.make_filmed(Barring, 0), tmp_path / "film.gif", 1)


WRONG = [
    ({"episodes": "3"}, "the number of episodes must be at least 1, and a whole number below 2.63, not '3'"),
    ({"episodes": 0}, "the number of episodes must be at least 1"),
    ({"episodes": 1.5}, "the number of episodes must be at least 1, and a whole"),
    ({"episodes": True}, "the number of episodes must be at least 1, and a whole"),
    ({"max_steps": "x"}, "max_steps must be at least 1, and a whole number below 2.63, not 'x'"),
    ({"max_steps": 0}, "max_steps must be at least 1"),
    ({"seed": None}, "a seed must be a whole number, at least 0, not None"),
    ({"seed": 1.5}, "a seed must be a whole number"),
    ({"seed": "a"}, "a seed must be a whole number"),
    ({"seed": -1}, "a seed must be a whole number"),
]


@pytest.mark.parametrize(("given", "told"), WRONG)
def test_a_wrong_number_of_episodes_steps_or_a_wrong_seed_is_refused(tmp_path, given, told):
    numbers = {"episodes": 1, "seed": 0, "max_steps": 10} | given

    def film(policy, make_env, episodes, seed, max_steps):
        filmed = envs.make_filmed(make_env.args[0], seed)
        film_episodes(policy, filmed, tmp_path / "film.gif", episodes, None, max_steps)

    for play in (play_episodes, demonstrate, film):
        with pytest.raises(BadInputError, match=told):
            play(Always(), FIVE, **numbers)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("told", "speed"), [(None, 30.0), (0, 30.0), ("fast", 30.0), (np.nan, 30.0), (1e-4, 30.0), (12, 12.0)]
)
def test_the_speed_of_a_film_is_what_can_be_used(told, speed):
    class Told(Shades):
        metadata = {"render_fps": told}  # noqa: RUF012

    assert envs.make_filmed(Told, 0).fps == speed


def test_pictures_of_other_kinds_are_pictures():
    picture = envs.filming.as_picture
    grey = np.full((4, 5), 128, np.uint8)
    for given in (grey, grey[..., None], np.dstack([grey] * 4), [grey, grey], np.full((4, 5, 3), 128 / 255)):
        np.testing.assert_array_equal(picture(given, "any"), np.full((4, 5, 3), 128))


@pytest.mark.parametrize("kind", [".gif", ".mp4"])
def test_a_film_is_for_all_who_may_read_the_directory(tmp_path, kind):
    out = Path(tmp_path / f"film{kind}")
    film_episodes(Always(), envs.make_filmed(Shades, 0), out, 1)
    other = tmp_path / "other"
    other.touch()
    assert out.stat().st_mode == other.stat().st_mode


@pytest.mark.parametrize("kind", [".gif", ".mp4"])
def test_the_slowest_film_can_be_written(tmp_path, kind):
    class Slow(Shades):
        metadata = {"render_fps": 0.1}  # noqa: RUF012

    filmed = envs.make_filmed(Slow, 0)
    assert filmed.fps == 0.1
    film_episodes(Always(), filmed, tmp_path / f"film{kind}", 1)

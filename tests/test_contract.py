"""Vector environments of others, and what single ones may give, in the one shape that everything here relies on."""

import functools
import time

import gymnasium as gym
import numpy as np
import pytest
import toys
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

import envs
from envs.contract import conform
from rlab.errors import BadInputError, TrainingError
from rlab.sampling.rollout import finished_episodes, whole_ends
from rlab.types import Episode

NEXT, SAME, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED


class Counting(gym.Env):
    """Shows [episode, step], in one array that it writes again and again."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length=3, info=None, reward=1.0):
        self._seen, self._length, self._info, self._reward = np.zeros(2, np.float32), length, info or {}, reward

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._seen[:] = self._seen[0] + 1, 0
        return self._seen, {}

    def step(self, action):
        self._seen[1] += 1
        ended = self._seen[1] == self._length
        return self._seen, self._reward, bool(ended), False, self._info if ended else {}


class Many(VectorEnv):
    """The same of B copies, as anyone's own vector environment, in arrays that are written again and again."""

    single_observation_space, single_action_space = Counting.observation_space, Counting.action_space

    def __init__(self, num_envs=3, mode=DISABLED, shares_final=False):
        self.num_envs, self.metadata, self._shares = num_envs, {"autoreset_mode": mode}, shares_final
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self._seen, self._final = np.zeros((2, num_envs, 2), np.float32)

    def reset(self, *, seed=None, options=None):
        rows = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        self._seen[rows, 0] += 1
        self._seen[rows, 1] = 0
        return self._seen, {}

    def step(self, actions):
        self._seen[:, 1] += 1
        ended = self._seen[:, 1] >= 3 + np.arange(self.num_envs)
        info = {}
        if self.metadata["autoreset_mode"] is SAME and ended.any():
            self._final[:] = self._seen
            info["final_obs"] = self._seen if self._shares else self._final
            self.reset(options={"reset_mask": ended})
        return self._seen, np.ones(self.num_envs), ended, np.zeros(self.num_envs, bool), info


class Restarting(Many):
    """Resets all copies, whichever the mask names."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)


class Lives(Many):
    """Says of each end that it is a life's, also where the time is up."""

    def step(self, actions):
        seen, rewards, ended, _, info = super().step(actions)
        return seen, rewards, ended, ended & (np.arange(self.num_envs) == 1), info | {"life_lost": ended}


def test_an_end_by_time_is_no_loss_of_a_life():
    env, ends = conform(Lives(num_envs=2, mode=SAME), "Lives", life_loss=True), []
    env.reset()
    for _ in range(4):
        *_, info = env.step(np.zeros(2, int))
        ends.append(info.get("_episode", np.zeros(2, bool)).tolist())
    assert ends == [[False, False]] * 3 + [[False, True]]  # the first copy lost a life at the third step, and goes on
    assert env.episode_lengths.tolist() == [4, 0]


def _play(env, steps):
    """All that was seen, as it was when it came and as it is at the end."""
    kept = [env.reset()[0]]
    then = [kept[0].copy()]
    finals, scores = [], []
    for _ in range(steps):
        seen, rewards, terminated, truncated, info = env.step(np.zeros(env.num_envs, int))
        kept.append(seen)
        then.append(seen.copy())
        assert rewards.dtype == np.float64
        for row in np.flatnonzero(terminated | truncated):
            finals.append((row, info["final_obs"]))
            scores.append((row, info["episode"]["r"][row], info["episode"]["l"][row]))
    np.testing.assert_array_equal(np.stack(kept), np.stack(then))
    return np.stack(kept), [(row, final[row].tolist()) for row, final in finals], scores


def _step(env, steps):
    for _ in range(steps):
        env.step(np.zeros(env.num_envs, int))


LENGTHS = [3, 4, 5]
SINGLES = [functools.partial(Counting, length) for length in LENGTHS]
MADE = {
    "same": lambda: SyncVectorEnv(SINGLES, autoreset_mode=SAME),
    "same, one array": lambda: SyncVectorEnv(SINGLES, autoreset_mode=SAME, copy=False),
    "next": lambda: SyncVectorEnv(SINGLES, autoreset_mode=NEXT),
    "disabled": lambda: SyncVectorEnv(SINGLES, autoreset_mode=DISABLED),
    "with statistics": lambda: RecordEpisodeStatistics(SyncVectorEnv(SINGLES, autoreset_mode=NEXT)),
    "statistics in the same step": lambda: RecordEpisodeStatistics(SyncVectorEnv(SINGLES, autoreset_mode=SAME)),
    "own, disabled": Many,
    "own, same": lambda: Many(mode=SAME),
    "processes": lambda: AsyncVectorEnv(SINGLES, autoreset_mode=NEXT),
}


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_every_way_to_reset_becomes_the_same_step(made):
    env = conform(made(), "Counting", 0, 3)
    assert env.metadata["autoreset_mode"] is SAME
    seen, finals, scores = _play(env, 10)
    env.close()
    for row, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(seen[:, row, 0], 1 + np.arange(11) // length)
        np.testing.assert_array_equal(seen[:, row, 1], np.arange(11) % length)
        ends = 10 // length
        assert [final for number, final in finals if number == row] == [[1.0 + i, length] for i in range(ends)]
        assert [score[1:] for score in scores if score[0] == row] == [(length, length)] * ends


def test_copies_that_are_reset_without_having_ended_are_noticed():
    with pytest.raises(TrainingError, match="reset must leave alone the copies that options"):
        _step(conform(Restarting(), "Restarting", 0, 3), 4)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_last_observation_is_not_overwritten_by_the_reset(asynchronous):
    env = envs.make(Counting, 2, asynchronous=asynchronous)
    _, finals, _ = _play(env, 3)
    env.close()
    assert finals == [(0, [1.0, 3.0]), (1, [1.0, 3.0])]


class Plain:
    """Rows whose state is what is seen."""

    limit = 3
    observation_space, action_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64), Counting.action_space

    def begin(self, rng):
        return np.array([1.0, 0.0])

    def step(self, states, actions):
        return envs.batched.Outcome(states + np.array([0.0, 1.0]), np.ones(len(states)), np.zeros(len(states), bool))

    def observe(self, states):
        return states


def test_rows_may_show_their_states():
    seen, finals, _ = _play(conform(envs.batched.RowVectorEnv(Plain(), 2), "Plain"), 4)
    np.testing.assert_array_equal(seen[:, 0, 1], [0.0, 1.0, 2.0, 0.0, 1.0])
    assert finals == [(0, [1.0, 3.0]), (1, [1.0, 3.0])]


class OneStepLate(Many):
    def __init__(self):
        super().__init__(mode=NEXT)


class WithoutSpaces(VectorEnv):
    num_envs = 3


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (Counting, "VectorEnv, not .*Counting, which is a single environment"),
        (lambda: None, "must give a gymnasium.vector.VectorEnv, not builtins.NoneType"),
        (WithoutSpaces, "has no single_observation_space"),
        (lambda: Many(2), "3 copies were asked for, and the factory made 2"),
        (
            OneStepLate,
            "cannot be adapted; make it with autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP, or give",
        ),
        (lambda: Many(mode=None), "must say in 'autoreset_mode' how it resets"),
    ],
)
def test_an_environment_that_cannot_be_adapted_is_refused_in_one_line(made, message):
    with pytest.raises(BadInputError, match=rf"environment Mine: .*{message}") as refused:
        conform(made(), "Mine", 0, 3)
    assert "\n" not in str(refused.value)


def _changed(**given):
    class Changed(Many):
        def step(self, actions):
            names = ("observations", "rewards", "terminations", "truncations", "info")
            values = dict(zip(names, super().step(actions), strict=True))
            return tuple((values | given).values())

    return Changed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"observations": np.zeros((3, 5), np.float32)}, r"gave observations float32\[3, 5\], not float32\[3, 2\]"),
        ({"observations": np.full((3, 2), "a")}, r"gave observations <U1\[3, 2\]"),
        ({"rewards": [1.0, 2.0]}, r"gave rewards float64\[2\], not one number for each of 3 copies"),
        ({"rewards": [1.0, None, 2.0]}, "gave rewards object"),
        ({"rewards": [1.0, [2.0], 3.0]}, "gave rewards object"),
        ({"terminations": [True]}, r"for what has ended, not bool\[3\]"),
        ({"more": 1}, "step must give 5 values"),
        ({"rewards": [0.0, np.nan, 0.0]}, "copy 1, step 1 of its episode: the reward is nan"),
        (
            {"observations": np.float32([[0, 0], [0, 0], [0, np.inf]])},
            r"copy 2, step 1 of its episode: the observation at \[1\] is inf",
        ),
        ({"rewards": [0.0, -1e39, 0.0]}, r"copy 1, .*: the reward is -1e\+39, which float32 cannot express"),
        ({"observations": np.full((3, 2), 1e300)}, r"the observation at \[0\] is inf"),
    ],
)
def test_a_wrong_result_of_a_vector_environment_is_named(given, message):
    env = conform(_changed(**given)(), "Mine")
    env.reset()
    with pytest.raises(TrainingError, match=f"environment Mine.*{message}"):
        env.step(np.zeros(3, int))


def _gives(space, value):
    """An environment of the space whose observations after the first step are the value."""

    class Giving(toys.Constant):
        observation_space = space

        def reset(self, *, seed=None, options=None):
            return space.sample(), {}

        def step(self, action):
            return value, 1.0, False, False, {}

    return Giving


SPACES = gym.spaces


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("space", "value", "message"),
    [
        (SPACES.Box(-np.inf, np.inf, (2,), np.float64), np.array([1.0, 1e300]), r"at \[1\] is 1e\+300, which float32"),
        (
            SPACES.Box(0, 255, (2,), np.uint8),
            np.array([300, 1], np.uint16),
            r"at \[0\] is 300, beyond the uint8 of its",
        ),
        (SPACES.Box(-9, 9, (2,), np.int8), np.array([1, -300]), r"at \[1\] is -300, beyond the int8"),
        (SPACES.Discrete(5), np.int64(7), r"is 7, which is not of Discrete\(5\)"),
        (SPACES.Discrete(5, start=3), 2, r"is 2, which is not of Discrete\(5, start=3\)"),
        (SPACES.MultiDiscrete([3, 3]), np.array([1, -1]), r"at \[1\] is -1, which is not of MultiDiscrete"),
    ],
)
def test_numbers_that_are_not_of_the_space_are_named(space, value, message, asynchronous):
    env = envs.make(_gives(space, value), 2, asynchronous=asynchronous)
    env.reset()
    with pytest.raises(
        TrainingError, match=rf"environment Giving, copy \d, step 1 of its episode: the observation {message}"
    ):
        env.step(np.zeros(2, int))
    env.close()


def test_an_observation_of_the_space_may_come_in_another_dtype():
    env = envs.make(_gives(SPACES.Box(0, 255, (2,), np.uint8), np.array([255, 0], np.uint16)), 2)
    env.reset()
    np.testing.assert_array_equal(env.step(np.zeros(2, int))[0], np.uint8([[255, 0], [255, 0]]))


@pytest.mark.parametrize(
    "own",
    [
        {"final_info": None},
        {"final_info": np.full(3, "text", object)},
        {"_episode": None},
        {"rewarded": "much"},
        {"final_info": {"is_success": np.ones(3), "_is_success": True}},
    ],
)
def test_information_of_any_kind_is_survived(own):
    class Own(Many):
        def step(self, actions):
            *given, info = super().step(actions)
            return *given, info | own

    env = conform(Own(mode=SAME), "Own")
    env.reset()
    for _ in range(3):
        _, _, terminated, truncated, info = env.step(np.zeros(3, int))
        ended = whole_ends(terminated | truncated, info)
        assert "rewarded" not in info
    assert finished_episodes(ended, info) == [Episode(3.0, 3, None)]


class Partly(Many):
    """Gives only the observations of those that were reset."""

    def reset(self, *, seed=None, options=None):
        seen, info = super().reset(seed=seed, options=options)
        return (seen[options["reset_mask"]] if options else seen), info


def test_a_reset_that_gives_some_of_the_rows_is_named():
    with pytest.raises(TrainingError, match=r"Partly: reset gave observations \[1, 2\], not \[3, 2\]"):
        _step(conform(Partly(), "Partly"), 4)


@pytest.mark.parametrize(
    "odd", [{"metadata": [1]}, {"single_observation_space": "space"}, {"metadata": property(lambda self: 1 / 0)}]
)
def test_a_vector_environment_of_odd_attributes_is_refused_in_a_line(odd):
    env = Many()
    kind = type("Odd", (Many,), {})
    for name, value in odd.items():
        env.__dict__.pop(name, None)
        setattr(kind, name, value)
    env.__class__ = kind
    with pytest.raises(BadInputError, match=r"environment Odd is no usable VectorEnv: \w+Error"):
        conform(env, "Odd")


def test_a_factory_that_leaves_the_process_is_refused(tmp_path):
    def leave(num_envs):
        raise SystemExit(0)

    with pytest.raises(BadInputError, match="environment 'leave' cannot be made: SystemExit: 0"):
        envs.factory(leave)(num_envs=2, seed=0)


def test_rewards_may_be_a_column_and_integers():
    env = conform(_changed(rewards=np.array([[1], [2], [3]]))(), "Mine")
    env.reset()
    np.testing.assert_array_equal(env.step(np.zeros(3, int))[1], [1.0, 2.0, 3.0])


def test_a_last_observation_in_the_array_of_the_first_ones_is_named():
    env = conform(Many(mode=SAME, shares_final=True), "Mine")
    env.reset()
    with pytest.raises(TrainingError, match=r"'final_obs'\] is the array of the observations"):
        _step(env, 3)


@pytest.mark.parametrize("reward", [np.ones(1), np.array(1.0), 1, True, np.float32(1), np.int8(1), [1.0]])
def test_a_reward_is_the_number_that_it_is(reward):
    env = envs.make(functools.partial(Counting, reward=reward), 2)
    assert _play(env, 3)[2] == [(0, 3.0, 3), (1, 3.0, 3)]


@pytest.mark.parametrize("reward", [None, "one", np.ones(2), [], {}, 1j, np.nan, np.inf])
def test_a_reward_that_is_no_number_is_named(reward):
    env = envs.make(functools.partial(Counting, reward=reward), 2)
    env.reset()
    with pytest.raises(
        TrainingError, match=r"environment Counting, copy 0, step 1 of its episode: the reward is"
    ) as told:
        env.step(np.zeros(2, int))
    assert "\n" not in str(told.value)


class NotFinite(toys.Constant):
    """NaN in the observation of a step, or of the reset (0); ends after three steps."""

    def __init__(self, at=0):
        self._at, self._step = at, -1

    def _show(self):
        return np.array([np.nan if self._step == self._at else 0.0], np.float32)

    def reset(self, *, seed=None, options=None):
        self._step = 0
        return self._show(), {}

    def step(self, action):
        self._step += 1
        return self._show(), 1.0, self._step == 3, False, {}


@pytest.mark.parametrize(("at", "which"), [(0, "the"), (2, "the"), (3, "the last")])
def test_nan_is_named_wherever_it_comes(at, which):
    env = envs.make(functools.partial(NotFinite, at), 2)
    message = rf"environment NotFinite, copy 0, step {at} of its episode: {which} observation at \[0\] is nan"
    with pytest.raises(TrainingError, match=message):
        _play(env, 3)


def test_a_reward_that_is_not_finite_is_named():
    class Rich(toys.Constant):
        def step(self, action):
            return np.ones(1, np.float32), np.inf, False, False, {}

    with pytest.raises(TrainingError, match="environment Rich, copy 0, step 1 of its episode: the reward is inf"):
        _play(envs.make(Rich, 2), 1)


def test_an_error_of_an_environment_keeps_its_message():
    env = envs.make(toys.Failing, 2)
    env.reset()
    with pytest.raises(
        TrainingError,
        match=r"^environment Failing, copy 0, step 50 of its episode: step: RuntimeError: the simulator broke \(",
    ):
        _step(env, 60)


def test_an_environment_that_cannot_be_made_is_named():
    def broken():
        raise OSError("no such model")

    with pytest.raises(BadInputError, match=r"environment 'broken' cannot be made: OSError: no such model"):
        envs.make(broken)
    with pytest.raises(BadInputError, match=r"must give a gymnasium.Env, not builtins.int"):
        envs.make(lambda: 3)
    with pytest.raises(BadInputError, match="made by a callable, not by 3"):
        envs.make(3)


def test_an_error_of_several_lines_is_told_in_one():
    class Talking(toys.Constant):
        def step(self, action):
            raise ValueError("one\n  two")

    env = envs.make(Talking)
    env.reset()
    with pytest.raises(TrainingError, match=r"ValueError: one two \(test_contract.py:\d+\)$"):
        _step(env, 1)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (np.ones(3, np.float32), r"float32\[3\]"),
        (np.ones((1, 1)), r"float64\[1, 1\]"),
        (None, "None"),
        ("text", "'text'"),
        (1j * np.ones(1), r"complex128\[1\]"),
    ],
)
def test_an_observation_of_another_shape_or_kind_is_named(seen, told, asynchronous):
    class Other(toys.Constant):
        def step(self, action):
            return seen, 1.0, False, False, {}

    env = envs.make(Other, asynchronous=asynchronous)
    env.reset()
    message = rf"environment .*Other, copy 0, step 1 of its episode: the observation is {told}, not float32\[1\] as"
    with pytest.raises(TrainingError, match=message):
        _step(env, 1)
    env.close()


@pytest.mark.parametrize("name", ["FrozenLake-v1", "Blackjack-v1", "Words"])
def test_observations_of_other_kinds_come_through(name):
    class Words(toys.Constant):
        observation_space = gym.spaces.Text(5)

        def reset(self, *, seed=None, options=None):
            return "word", {}

        def step(self, action):
            return "words", 1.0, True, False, {}

    env = envs.make(Words if name == "Words" else name, 2, 0)
    env.reset()
    for _ in range(30):
        *_, terminated, truncated, info = env.step(np.zeros(2, int))
        if (terminated | truncated).any():
            assert len(info["final_obs"]) == 2
            return
    pytest.fail("no episode ended")


@pytest.mark.parametrize("length", [4, 2])
def test_a_step_of_the_old_kind_is_named(length):
    class Old(toys.Constant):
        def step(self, action):
            return (np.ones(1, np.float32), 1.0, False, {})[:length]

    env = envs.make(Old)
    env.reset()
    with pytest.raises(TrainingError, match=r"environment Old, copy 0.*: step must give an observation, a reward"):
        env.step(np.zeros(1, int))


@pytest.mark.parametrize("name", ["Pong", "CartPole-v1", "Acrobot-v1", "TMaze"])
@pytest.mark.parametrize("seed", [2**31 - 1, np.int64(2**31 - 1), 2**40])
def test_large_seeds_are_seeds(name, seed):
    def begin(seed):
        env = envs.make(name, 3, seed=seed)
        frames = [env.reset()[0], env.reset(seed=seed)[0], env.step(np.zeros(3, int))[0]]
        env.close()
        return frames

    np.testing.assert_array_equal(begin(seed), begin(seed))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_copy_that_keeps_its_seed_in_32_bits_takes_any(asynchronous):
    class Short(toys.Constant):
        def reset(self, *, seed=None, options=None):
            return np.float32([np.int32(seed)]), {}

    env = envs.make(Short, 2, seed=2**31 - 1, asynchronous=asynchronous)
    np.testing.assert_array_equal(env.reset()[0], np.float32([[2**31 - 1], [0]]))
    env.close()


@pytest.mark.parametrize("seed", [-1, np.int64(-5), 0.5, "x"])
def test_other_seeds_are_refused(seed):
    with pytest.raises(BadInputError, match="a seed must be a whole number, at least 0, not"):
        envs.make("CartPole-v1", seed=seed)
    with pytest.raises(BadInputError, match="a seed must be a whole number"):
        envs.make("CartPole-v1").reset(seed=seed)


SUCCESS = [
    ([{"is_success": True}, {}], [1.0, None]),
    ([{}, {"is_success": np.bool_(False)}], [None, 0.0]),
    ([{"is_success": 1}, {"is_success": None}], [1.0, None]),
    ([{"is_success": True}, {"is_success": 0.25}], [1.0, 0.25]),
    ([{"is_success": "yes"}, {"is_success": True}], [None, 1.0]),
    ([{"is_success": np.array([1])}, {"is_success": [0]}], [1.0, 0.0]),
    ([{"is_success": {"deep": 1}}, {"is_success": 1.0}], [None, 1.0]),
    ([{"note": "a", "episode": {"r": 7.0}}, {"note": 3, "episode": 4}], [None, None]),
]


@pytest.mark.parametrize(("infos", "successes"), SUCCESS)
@pytest.mark.parametrize("mode", [SAME, DISABLED])
def test_success_is_that_of_the_episodes_which_report_it(infos, successes, mode):
    made = SyncVectorEnv([functools.partial(Counting, info=info) for info in infos], autoreset_mode=mode)
    env = conform(made, "Counting")
    env.reset()
    for _ in range(3):
        *_, terminated, _, info = env.step(np.zeros(2, int))
    episodes = finished_episodes(terminated, info)
    assert [episode.success for episode in episodes] == successes
    assert [episode.score for episode in episodes] == [3.0, 3.0]


def test_success_of_other_kinds_of_vector_environments():
    statistics = {"episode": {"r": np.ones(2), "l": np.ones(2)}}
    ended = np.ones(2, bool)
    for given in ({"is_success": np.array([True, False])}, {"final_info": [{"is_success": 1}, {"is_success": 0}]}):
        assert [episode.success for episode in finished_episodes(ended, statistics | given)] == [1.0, 0.0]
    assert finished_episodes(ended, statistics | {"final_info": [None, {}]})[0].success is None


class Sticking(toys.Constant):
    def close(self):
        time.sleep(60)


class Breaking(toys.Constant):
    def close(self):
        raise SystemExit(3)


def test_closing_raises_nothing_and_ends(monkeypatch, capsys):
    monkeypatch.setattr("envs.closing.LIMIT", 0.2)
    env = envs.make(Breaking, 2)
    env.close()
    env.close()
    assert capsys.readouterr().err == "environment Breaking could not be closed: SystemExit: 3\n"
    began = time.monotonic()
    envs.make(Sticking, 2).close()
    assert time.monotonic() - began < 5
    assert capsys.readouterr().err == "environment Sticking did not close within 0.2 s and is left as it is\n"


def test_a_process_that_was_killed_is_named_and_does_not_hang(capsys):
    env = envs.make(toys.Matching, 2, asynchronous=True)
    env.reset()
    processes = env.unwrapped.processes
    processes[1].kill()
    processes[1].join()
    with pytest.raises(TrainingError, match=r"environment Matching.*one of its processes has ended"):
        _step(env, 3)
    env.close()
    assert capsys.readouterr().err.count("\n") <= 1
    processes[0].join(5)
    assert not processes[0].is_alive()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_environment_that_asks_for_the_end_of_the_process_is_at_fault(asynchronous):
    class Leaving(toys.Constant):
        def step(self, action):
            raise SystemExit(3)

    env = envs.make(Leaving, 1, asynchronous=asynchronous)
    env.reset()
    with pytest.raises(
        TrainingError, match=r"environment .*Leaving, copy 0, step 1 of its episode: step: SystemExit: 3"
    ):
        _step(env, 1)
    env.close()

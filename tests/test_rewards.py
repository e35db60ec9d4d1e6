"""Learned rewards: what the wrapper gives, what novelty counts, what imitation tells apart; resumed to the bit."""

import dataclasses
import functools

import gymnasium as gym
import numpy as np
import pytest

import agents
import envs
import rlab
from rlab.errors import BadInputError, TrainingError
from rlab.rewards import ImitationConfig, NoveltyConfig, demonstrations, imitation, novelty
from rlab.rewards.demonstrations import Demonstrations
from rlab.rewards.models import Averages, Rewarded, make_model
from rlab.schedules import Schedule
from rlab.state import pack


class Distance:
    """A model whose rewards are known: how far a step went, once for each row that counts."""

    def give(self, before, actions, after, rewards, counts):
        self.counts = counts.copy()
        return np.abs(after - before).sum(-1) + 100.0 * (actions == 1)


def _made(first_episodes=False, **keywords):
    model = Distance()
    return model, Rewarded(envs.make("DeepSea", 3, seed=0, size=4, **keywords), model, first_episodes)


def test_rewards_are_the_models_and_scores_the_environments_own():
    _, env = _made()
    env.reset()
    for _ in range(2):
        for _step in range(4):
            _, rewards, terminated, _, info = env.step(np.array([1, 0, 1]))
            # Down one row of four in [-1, 1] is 0.5, and so is one column to the right.
            np.testing.assert_allclose(rewards, [101.0, 0.5, 101.0])
        assert terminated.all()
        np.testing.assert_allclose(info["rewarded"], [404.0, 2.0, 404.0])
        np.testing.assert_allclose(info["episode"]["r"], [0.99, 0.0, 0.99], rtol=1e-6)


def test_copies_that_rest_count_no_more():
    model, env = _made(first_episodes=True, single_episode=True)
    env.reset()
    for _ in range(4):
        env.step(np.zeros(3, int))
        assert model.counts.all()
    _, rewards, *_ = env.step(np.ones(3, int))
    assert not model.counts.any()
    assert not rewards.any()
    env.reset(seed=1)
    env.step(np.zeros(3, int))
    assert model.counts.all()


def test_a_saved_environment_goes_on_with_the_same_rewards():
    _, env = _made()
    env.reset()
    env.step(np.array([1, 0, 1]))
    saved = env.save_state()
    expected = [env.step(np.array([1, 1, 0])) for _ in range(3)]
    _, other = _made()
    other.reset()
    other.load_state(saved)
    for old in expected:
        new = other.step(np.array([1, 1, 0]))
        for a, b in zip(old[:4], new[:4], strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(expected[-1][4]["rewarded"], new[4]["rewarded"])


class Tally:
    """A model that learns: a reward is the number of steps that it gave rewards for, `counted` that of rows."""

    def __init__(self, poison=np.inf):
        self.given, self.counted, self._poison = 0, 0, poison

    def give(self, before, actions, after, rewards, counts):
        self.given, self.counted = self.given + 1, self.counted + int(counts.sum())
        return np.full(len(rewards), self.given if self.given < self._poison else np.nan)

    def metrics(self):
        return {"given": float(self.given)}

    def state(self):
        return {"given": self.given}

    def restore(self, arrays):
        self.given = int(arrays["given"])


class Tallied:
    """Settings of one's own."""

    replaces = False

    def __init__(self, poison=np.inf):
        self.poison = poison

    def make(self, observation_space, action_space, seed):
        return Tally(self.poison)

    def describe(self):
        return {"kind": "tally"}


SEA = functools.partial(envs.make, "DeepSea", size=4)


def test_rewards_learned_in_a_branch_are_forgotten_in_the_next():
    """The trajectory gets what it would if nothing had been tried, and every action of a state comes to the same."""
    config = agents.TRPO.Config(batch_size=16, parallel_envs=2, critic_minibatch=8, sampling="vine", vine_spacing=4)
    agent = agents.TRPO(dataclasses.replace(config, vine_length=3, discount=0.5), SEA, rewards=Tallied())
    learner = agent.learner(Schedule(99))
    learner.critic.params *= 0.0
    _, _, branches = learner.collect()
    assert agent.reward_model.given == 8
    *_, trajectory, _ = learner.play()
    np.testing.assert_array_equal(trajectory.rewards, np.arange(9, 17)[:, None] * np.ones(2))
    np.testing.assert_allclose(branches.values, 0.0, atol=1e-5)


@pytest.mark.parametrize("kind", ["RPG", "SNES"])
def test_steps_after_an_episodes_end_are_not_learned_from(kind):
    """Copies may rest then, or play on where the factory knows no `single_episode`."""
    for factory in (CARTPOLE, lambda num_envs, seed: envs.make("CartPole-v1", num_envs, seed)):
        agent = getattr(agents, kind)
        config = {"episodes_per_batch": 8} if kind == "RPG" else {"population": 8, "group": 4}
        made = agent(agent.Config(**config), factory, rewards=Tallied())
        learner = made.learner(Schedule(99))
        assert next(learner.updates()).steps == made.reward_model.counted > 0


def test_a_reference_batch_teaches_nothing():
    agent = agents.SNES(agents.SNES.Config(population=4), SEA, rewards=Tallied())
    assert len(agent.learner(Schedule(99)).reference()) == 128
    assert agent.reward_model.given == 0


def test_copies_that_play_on_count_their_first_episode_only():
    model, env = _made(first_episodes=True)
    env.reset()
    for _ in range(4):
        env.step(np.zeros(3, int))
    _, rewards, *_ = env.step(np.ones(3, int))
    assert not model.counts.any()
    assert not rewards.any()


@pytest.mark.parametrize("kind", ["TRPO", "RPG", "SNES", "A3C"])
def test_a_learned_reward_that_is_not_finite_stops_every_agent(kind, tmp_path):
    agent = getattr(agents, kind)
    config = {"TRPO": {"parallel_envs": 4}, "RPG": {"episodes_per_batch": 4}, "SNES": {"population": 4}, "A3C": {}}
    made = agent(agent.Config(**config[kind]), SEA, rewards=Tallied(poison=3))
    with pytest.raises(
        TrainingError, match=r"^(batch 0|generation 0|worker [01]), .*: environment 0: the learned rew.* nan"
    ):
        made.train(tmp_path / "run", 10_000)


def test_averages_are_of_what_was_told_since_they_were_taken():
    averages = Averages("a", "b")
    assert np.isnan(list(averages.take().values())).all()
    averages.tell(a=1.0, b=5.0)
    averages.tell(a=3.0)
    assert averages.take() == {"a": 2.0, "b": 5.0}
    averages.tell(a=7.0)
    assert averages.take() == {"a": 7.0, "b": 5.0}


# Novelty.

PLANE = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)


def test_pseudo_counts_are_those_of_the_paper():
    gain, learned, scale = np.array([0.5, 0.01, -1.0], np.float32), 16.0, 0.1
    with np.errstate(divide="ignore"):
        expected = 1.0 / (np.exp(scale / 4.0 * np.maximum(gain, 0.0)) - 1.0)
    np.testing.assert_allclose(novelty.pseudo_counts(gain, np.float32(learned), scale), expected, rtol=1e-3)


def test_pseudo_counts_of_an_exact_density_are_its_counts():
    """A density that has seen x N times among n has ρ = N/n and ρ' = (N + 1)/(n + 1); here c n^{-1/2} = 1."""
    often, n = np.array([1.0, 5.0, 50.0]), 10_000.0
    gain = np.log((often + 1) / (n + 1)) - np.log(often / n)
    found = novelty.pseudo_counts(gain.astype(np.float32), np.float32(n), np.sqrt(n))
    np.testing.assert_allclose(found, often, rtol=0.02)


def _seen_at(kind, places):
    """Observations of places [B, 2] in [-1, 1]: their numbers, or a white square there in front of grey blocks."""
    if kind == "vector":
        return places.astype(np.float32)
    blocks = np.random.default_rng(0).integers(0, 2, (7, 7)) * 110
    frames = np.tile(np.kron(blocks, np.ones((6, 6)))[None], (len(places), 1, 1)).astype(np.uint8)
    for frame, (row, column) in zip(frames, np.round(19.0 + 18.0 * places).astype(int), strict=True):
        frame[row : row + 4, column : column + 4] = 255
    return frames[..., None]


@pytest.mark.parametrize("kind", ["vector", "image"])
def test_the_bonus_is_smaller_for_observations_seen_often(kind):
    generator = np.random.default_rng(0)
    space = PLANE if kind == "vector" else gym.spaces.Box(0, 255, (42, 42, 1), np.uint8)
    model = novelty.Novelty(space, NoveltyConfig(weight=1.0), seed=0)
    rest = np.zeros(8), np.ones(8, bool)

    def bonus(centre):
        seen = _seen_at(kind, np.clip(generator.normal(centre, 0.15, (8, 2)), -1.0, 1.0))
        return model.give(seen, np.zeros(8), seen, *rest)

    for _ in range(300):
        bonus(-0.5)
    often, never = np.concatenate([bonus(-0.5) for _ in range(5)]), bonus(0.5)
    assert 0.0 <= 2.0 * often.mean() < never.mean() <= 1.0
    metrics = model.metrics()
    assert set(metrics) == {"bonus", "surprise"}
    assert all(np.isfinite(value) for value in metrics.values())


def test_rows_that_do_not_count_are_not_learned_of():
    first, second = (novelty.Novelty(PLANE, NoveltyConfig(), seed=0) for _ in range(2))
    seen = np.array([[0.1, 0.2], [0.8, -0.9]], np.float32)
    other = np.array([[0.1, 0.2], [-0.7, 0.3]], np.float32)
    counts = np.array([True, False])
    for model, x in ((first, seen), (second, other)):
        model.give(x, np.zeros(2), x, np.zeros(2), counts)
    np.testing.assert_array_equal(first.state()["params"], second.state()["params"])


def test_numbers_without_bounds_are_seen_by_their_deviations():
    space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    model = novelty.Novelty(space, NoveltyConfig(), seed=0)
    generator = np.random.default_rng(0)
    for _ in range(20):
        x = (100.0 + 5.0 * generator.normal(size=(8, 3))).astype(np.float32)
        model.give(x, np.zeros(8), x, np.zeros(8), np.ones(8, bool))
    seen = model.state()["seen"]
    np.testing.assert_allclose(seen.mean, 100.0, atol=2.0)
    assert seen.rows == 160


def test_a_bonus_finds_the_treasure_of_the_deep_sea(tmp_path):
    """The same agent, settings and seed without it goes left for ever."""
    factory = functools.partial(envs.make, "DeepSea", size=10)
    config = agents.TRPO.Config(batch_size=512, max_kl=0.01)
    plain = agents.TRPO(config, factory).train(tmp_path / "plain", 20_000)
    curious = agents.TRPO(config, factory, rewards=NoveltyConfig()).train(tmp_path / "curious", 20_000)
    assert plain.mean_score < 0.5 < 0.9 < curious.mean_score


# Imitation.


def _shown():
    """Whoever shows it goes by the sign of the first number."""
    x = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    a = (x[:, 0] > 0).astype(np.int64)
    return Demonstrations(x, a, np.zeros(400, np.int32), np.ones(1))


def _saved(tmp_path, shown, name="shown.npz"):
    path = tmp_path / name
    path.write_bytes(demonstrations.save(shown))
    return str(path)


LINE = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)


def _imitation(tmp_path, **settings):
    path = _saved(tmp_path, _shown())
    config = ImitationConfig(demonstrations=path, batch_size=128, minibatch=64, **settings)
    return imitation.Imitation(LINE, gym.spaces.Discrete(2), demonstrations.load(path), config, 0)


def _act(model, generator, right):
    x = generator.normal(size=(32, 3)).astype(np.float32)
    a = (x[:, 0] > 0).astype(int)
    return model.give(x, a if right else 1 - a, x, np.zeros(32), np.ones(32, bool))


def test_the_discriminator_rewards_what_the_demonstrator_does(tmp_path):
    model, generator = _imitation(tmp_path, learning_rate=3e-3), np.random.default_rng(1)
    for step in range(200):
        _act(model, generator, right=step % 2 == 0)  # half of what it does is wrong
    right, wrong = _act(model, generator, True).mean(), _act(model, generator, False).mean()
    assert 0.0 < 2.0 * wrong < right
    metrics = model.metrics()
    assert set(metrics) == {"imitation_reward", "discriminator_loss", "told_apart"}
    assert 0.5 < metrics["told_apart"] < 1.0


def test_imitation_goes_on_as_if_it_had_never_stopped(tmp_path):
    whole, generator = _imitation(tmp_path), np.random.default_rng(1)
    for _ in range(6):
        _act(whole, generator, True)
    other = _imitation(tmp_path)
    other.restore(pack(whole.state()))
    for seed in range(6):
        first, second = (_act(model, np.random.default_rng(seed), False) for model in (whole, other))
        np.testing.assert_array_equal(first, second)
    for name, array in pack(whole.state()).items():
        np.testing.assert_array_equal(array, pack(other.state())[name])


CARTPOLE = functools.partial(envs.make, "CartPole-v1")


def _settings(kind, tmp_path):
    if kind == "novelty":
        return NoveltyConfig()
    x = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    shown = Demonstrations(x, (x[:, 2] > 0).astype(np.int64), np.zeros(300, np.int32), np.ones(1))
    return ImitationConfig(demonstrations=_saved(tmp_path, shown))


@pytest.mark.parametrize(("kind", "sampling"), [("novelty", "single-path"), ("imitation", "vine")])
def test_a_resumed_run_has_the_same_parameters(kind, sampling, tmp_path):
    vine = {"sampling": sampling, "vine_spacing": 32, "vine_length": 8}
    config = agents.TRPO.Config(batch_size=256, max_kl=0.01, parallel_envs=4, critic_epochs=1, **vine)
    for run, steps in (("whole", 1024), ("halves", 512)):
        agents.TRPO(config, CARTPOLE, rewards=_settings(kind, tmp_path)).train(tmp_path / run, steps)
    agents.TRPO.resume(tmp_path / "halves", steps=1024)
    config = rlab.runs.Run.open(tmp_path / "halves").config
    assert (config["env"]["name"], config["rewards"]["kind"]) == ("CartPole-v1", kind)
    runs = [rlab.runs.Run.open(tmp_path / name).latest_checkpoint() for name in ("whole", "halves")]
    assert any(name.startswith("rewards/") for name in runs[0].arrays)
    for name, array in runs[0].arrays.items():
        np.testing.assert_array_equal(array, runs[1].arrays[name], err_msg=name)


@pytest.mark.parametrize(
    ("agent", "config"),
    [
        ("A3C", {"workers": 2, "envs_per_worker": 4}),
        ("RPG", {"episodes_per_batch": 8}),
        ("SNES", {"population": 8}),
    ],
)
def test_every_agent_learns_from_a_bonus(agent, config, tmp_path):
    kind = getattr(agents, agent)
    made = kind(kind.Config(**config), SEA, rewards=NoveltyConfig(weight=2.0))
    result = made.train(tmp_path / "run", 1000)
    header, *rows = (result.run / "metrics.csv").read_text().splitlines()
    row = dict(zip(header.split(","), rows[-1].split(","), strict=True))
    assert float(row["bonus"]) > 0.0
    assert -0.01 <= float(row["score"]) <= 0.99  # the environment's own, not the bonus
    saved = rlab.runs.Run.open(result.run).latest_checkpoint()
    assert saved.arrays["rewards/adam/count"] > 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"observations": np.zeros((400, 4), np.float32)}, "observations have shape"),
        ({"actions": np.full(400, 7)}, "actions from 7 to 7"),
        ({"observations": np.full((400, 3), np.nan, np.float32)}, "not finite"),
    ],
)
def test_demonstrations_of_something_else_are_refused(change, said, tmp_path):
    path = _saved(tmp_path, _shown()._replace(**change))
    with pytest.raises(BadInputError, match=said):
        imitation.Imitation(
            LINE, gym.spaces.Discrete(2), demonstrations.load(path), ImitationConfig(demonstrations=path), 0
        )


@pytest.mark.parametrize("space", [gym.spaces.Discrete(3), gym.spaces.Box(0.0, 1.0, (9, 9), np.float32)])
def test_observations_that_cannot_be_known_are_refused(space, tmp_path):
    with pytest.raises(BadInputError, match="novelty is known of"):
        novelty.Novelty(gym.spaces.Discrete(3), NoveltyConfig(), 0)
    with pytest.raises(BadInputError, match="imitation is known of"):
        imitation.Imitation(space, gym.spaces.Discrete(2), _shown(), ImitationConfig(), 0)


def test_an_imitating_agent_never_sees_the_rewards(tmp_path):
    path = _saved(tmp_path, _shown())
    factory = functools.partial(envs.make, "CartPole-v1", observe_reward=True)
    with pytest.raises(BadInputError, match="--imitate cannot go with --observe-reward"):
        agents.TRPO(env=factory, rewards=ImitationConfig(demonstrations=path))
    assert agents.TRPO(env=factory, rewards=NoveltyConfig()).policy.observation_space.shape == (5,)  # no bonus is seen


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Box(0.0, 1.0, (9, 8), np.float32),
        gym.spaces.Box(-8, 7, (2, 9, 8, 3), np.int16),
        gym.spaces.MultiBinary((8, 9)),
        gym.spaces.Box(-128, 127, (2, 3), np.int8),
        gym.spaces.MultiBinary(4),
    ],
    ids=str,
)
def test_novelty_takes_any_image_and_any_vector(space):
    model = novelty.Novelty(space, NoveltyConfig(), seed=0)
    space.seed(0)
    x = np.stack([space.sample() for _ in range(4)])
    seen = model.in_levels(x, np.ones(4, bool))
    assert seen.shape == ((4, *model.reading.shape[:2]) if model.reading.image else (4, 1, x[0].size))
    assert 0.0 <= seen.min() < seen.max() <= 1.0


def test_a_run_knows_its_demonstrations_again(tmp_path):
    factory = envs.factory("CartPole-v1")
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    shown = Demonstrations(x, np.arange(50) % 2, np.zeros(50, np.int32), np.ones(1))
    path = _saved(tmp_path, shown)
    described = ImitationConfig(demonstrations=path).describe()
    config = ImitationConfig(**{name: value for name, value in described.items() if name != "kind"})
    make_model(config, factory, 0)
    _saved(tmp_path, shown._replace(observations=x + 1.0))
    with pytest.raises(BadInputError, match="another file than the run began with"):
        make_model(config, factory, 0)
    _saved(tmp_path, shown._replace(**{name: array[:0] for name, array in shown._asdict().items()}))
    with pytest.raises(BadInputError, match="it is empty"):
        demonstrations.load(path)

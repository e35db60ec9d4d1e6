"""From what a user calls an environment to what an agent plays, and what an agent is made of by its name."""

import functools
import json
import math

import gymnasium as gym
import numpy as np
import pytest
import toys

import agents
import envs
from agents import AGENTS, construction, tuning
from launch.evaluate import env_to_play
from rlab.errors import BadInputError
from rlab.runs.directory import Run
from rlab.runs.environment import env_factory


class Sized(toys.Matching):
    def __init__(self, size):
        self.size = size


def _vector(num_envs):
    return gym.make_vec("CartPole-v1", num_envs=num_envs, vectorization_mode="sync")


class _Many:
    """A callable object that takes a seed too."""

    def __call__(self, num_envs, seed, scale=1.0):
        self.seed = seed
        return envs.make(toys.Reach, num_envs, seed)


GOOD = {
    "a name in any spelling": "cartpole-v1",
    "a class": toys.Matching,
    "a function": toys.limited_constant,
    "bound arguments": functools.partial(Sized, 3),
    "gymnasium's own": functools.partial(gym.make, "CartPole-v1"),
    "a partial of make": functools.partial(envs.make, toys.Recall),
    "many at once": _vector,
    "many, with any keywords": lambda **keywords: envs.make(toys.Reach, **keywords),
    "many, by an object": _Many(),
    "many, by gymnasium": functools.partial(gym.make_vec, "CartPole-v1", vectorization_mode="sync"),
}


@pytest.mark.parametrize("env", GOOD.values(), ids=GOOD)
def test_every_maker_of_environments_becomes_a_factory_of_many(env):
    made = envs.factory(env)(num_envs=2, seed=3)
    observations, _ = made.reset()
    assert made.num_envs == len(observations) == 2
    for _ in range(20):
        _, rewards, *_ = made.step(np.stack([made.single_action_space.sample()] * 2))
    assert rewards.shape == (2,)
    made.close()


@pytest.mark.parametrize("env", [toys.Matching, _vector, _Many()], ids=["one", "many", "seeded"])
def test_copies_are_seeded_by_the_factory_s_seed(env):
    first, again, other = (envs.factory(env)(num_envs=2, seed=seed).reset()[0] for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_a_factory_stays_what_it_is():
    for env in (envs.factory("Pendulum-v1"), envs.factory(_vector), envs.factory(toys.Recall)):
        assert envs.factory(env) is env
    assert envs.factory("cartpole-v1").description == {"name": "CartPole-v1", "options": {}}
    described = envs.factory(functools.partial(envs.make, "TMaze", corridor=4, seed=3)).description
    assert described == {"name": "TMaze", "options": {"corridor": 4}}
    described = envs.factory("Pong", sticky_actions=0.25).description
    assert described == {"name": "Pong", "options": {"sticky_actions": 0.25}}
    for code in (functools.partial(envs.make, toys.Recall), toys.Recall, _vector):
        assert envs.factory(code).description is None


@pytest.mark.parametrize(
    ("env", "limit", "saves"), [("Acrobot-v1", 500, True), ("Pong", 27_000, True), (toys.Recall, None, False)]
)
def test_a_factory_says_what_its_environments_are(env, limit, saves):
    made = envs.factory(env)
    assert (made.episode_limit, made.can_save, made.shows_reward) == (limit, saves, False)
    one = made(num_envs=2, seed=0, restorable=saves)
    assert (one.single_observation_space, one.single_action_space) == (made.observation_space, made.action_space)
    assert one.can_save is saves
    one.close()
    assert envs.factory("TMaze", observe_reward=True).shows_reward


def test_a_factory_of_ones_own_is_asked_for_what_it_takes():
    asked = []

    def make(num_envs, seed, restorable=False):
        asked.append((num_envs, seed, restorable))
        return envs.make("CartPole-v1", num_envs, seed, restorable=restorable)

    made = envs.factory(make)
    assert made.can_save  # without asking it
    made(3, 7, restorable=True, single_episode=True).close()
    assert asked == [(3, 7, True)]


BAD = {
    "number": (3, "env cannot be 3; give a name"),
    "unknown": ("CartPol-v1", "'CartPole-v1'"),
    "already made": (gym.make("CartPole-v1"), "already made"),
    "already many": (gym.make_vec("CartPole-v1", num_envs=2), "already made"),
    "argument missing": (Sized, "needs size"),
    "argument of many missing": (lambda num_envs, size: None, "needs size"),
    "many where one is": (lambda: gym.make_vec("CartPole-v1", num_envs=2), "must give a gymnasium.Env, not"),
    "one where many are": (lambda num_envs: gym.make("CartPole-v1"), "must give a gymnasium.vector.VectorEnv, not"),
    "nothing": (lambda: None, "must give a gymnasium.Env, not"),
    "of another number": (
        lambda num_envs: gym.make_vec("CartPole-v1", num_envs=2),
        "1 copies were asked for, and the factory made 2",
    ),
}


@pytest.mark.parametrize(("env", "told"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("agent", AGENTS.values())
def test_a_callable_that_makes_no_environment_is_refused_in_one_line(agent, env, told):
    with pytest.raises(BadInputError, match=told) as caught:
        getattr(agents, agent)(env=env)
    assert "\n" not in str(caught.value)


def test_make_refuses_what_is_no_environment():
    for env in (3, None, gym.make("CartPole-v1")):
        with pytest.raises(BadInputError, match="an environment is named, or made by a callable"):
            envs.make(env)


@pytest.mark.parametrize("agent", AGENTS.values())
def test_a_wrong_argument_of_an_agent_is_refused(agent, tmp_path):
    kind = getattr(agents, agent)
    other = agents.SNES if agent != "SNES" else agents.A3C
    for arguments, told in [
        ({}, f'{agent} needs an environment, such as env="CartPole-v1"'),
        ({"config": "CartPole-v1"}, "the environment is env="),
        ({"config": other.Config(), "env": "CartPole-v1"}, f"agents.{agent}.Config.*not an agents.{other.__name__}"),
        ({"config": {"discount": 0.9}, "env": "CartPole-v1"}, f"agents.{agent}.Config"),
        ({"config": kind.Config, "env": "CartPole-v1"}, f"agents.{agent}.Config"),
        ({"env": "CartPole-v1", "policy": "mlpp"}, "'mlp'"),
        ({"env": "CartPole-v1", "policy": 3}, "name of a backbone"),
        ({"env": "CartPole-v1", "seed": "0"}, "seed must be a whole number"),
    ]:
        with pytest.raises(BadInputError, match=told):
            kind(**arguments)
    agent = kind(env="CartPole-v1", policy="mlp", seed=np.int64(1))
    least, whole = "at least 1", "whole number below 2.63"
    for steps, told in [(0, least), (-5, least), ("10", whole), (0.5, whole), (10**30, whole)]:
        with pytest.raises(BadInputError, match=told):
            agent.train(tmp_path / "run", steps)
    for given, told in [
        ({"target_score": 1e19}, "target score must be a number between"),
        ({"checkpoint_every": math.nan}, "seconds between checkpoints must be finite, 0 or more, not nan"),
        ({"checkpoint_every": math.inf}, "seconds between checkpoints must be finite"),
    ]:
        with pytest.raises(BadInputError, match=told):
            agent.train(tmp_path / "run", 10, **given)
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match="exists and is not empty"):
        agent.train(tmp_path, 10)


@pytest.mark.parametrize("agent", AGENTS)
def test_a_config_for_an_environment_is_the_command_line_s(agent):
    kind = getattr(agents, AGENTS[agent]).Config
    for name in (*tuning.tuned_names(agent), "Breakout", "MountainCar-v0"):
        settings = tuning.tuned(agent, name, name in ("Breakout", "Pong"))["config"]
        assert kind.for_env(name) == kind(**settings)
    assert kind.for_env("cartpole-V1", learning_rate=0.5).learning_rate == 0.5
    for arguments, told in [
        (("CartPol-v1",), "unknown environment"),
        ((toys.Matching,), "names of environments"),
    ]:
        with pytest.raises(BadInputError, match=told):
            kind.for_env(*arguments)
    with pytest.raises(BadInputError, match="'learning_rate'"):
        kind.for_env("CartPole-v1", learnin_rate=1.0)
    with pytest.raises(BadInputError, match="--learning-rate must be"):
        kind.for_env("CartPole-v1", learning_rate=-1.0)


def test_a_game_takes_the_settings_of_all_games_where_it_has_none():
    game, other = tuning.tuned("a3c", "Pong", True), tuning.tuned("a3c", "Breakout", True)
    assert (game["steps"], game["target_score"], other["target_score"]) == (8_000_000, 18.5, None)
    assert all(game[name] == other[name] for name in ("backbone", "env", "config"))


def test_a_name_brings_what_is_tuned_for_it():
    config = agents.TRPO.Config(max_kl=0.5)
    chosen = construction.choose(agents.TRPO.Config, None, "pong", None, 0, False)
    assert chosen.config == agents.TRPO.Config.for_env("Pong")
    assert chosen.policy == "small-cnn"
    assert chosen.env.description == {"name": "Pong", "options": {"frame_size": 42}}
    assert chosen.length(None, None) == (800_000, 19.0)
    assert chosen.length(None, math.inf) == (800_000, None)
    assert chosen.length(1e5, None) == (100_000, None)
    chosen = construction.choose(agents.TRPO.Config, config, "Pong", "cnn", 0, False)
    assert chosen.config is config
    assert chosen.policy == "cnn"


def test_an_environment_without_a_name_brings_no_tuned_settings():
    chosen = construction.choose(agents.TRPO.Config, None, functools.partial(envs.make, "Pong"), None, 0, False)
    assert chosen.config == agents.TRPO.Config()
    assert chosen.policy is None
    assert chosen.env.description == {"name": "Pong", "options": {}}
    with pytest.raises(BadInputError, match="needs a number of steps"):
        chosen.length(None, None)


def test_a_run_of_a_named_environment_goes_on_without_one(tmp_path):
    run = tmp_path / "run"
    config = agents.SNES.Config(population=4, group=2)
    agents.SNES(config, env="Catch").train(run, 100)
    assert agents.SNES.resume(run, steps=200).steps >= 200
    described = json.loads((run / "config.json").read_text())
    assert described["env"] == {"name": "Catch", "options": {}}


def test_a_run_keeps_every_seed_and_no_more_steps_than_it_can(tmp_path):
    run = tmp_path / "run"
    agents.SNES(agents.SNES.Config(population=4, group=2), env="Catch", seed=2**64 - 1).train(run, 100)
    for steps in (1e25, 0, "200"):
        with pytest.raises(BadInputError, match=r"and a whole number below 2\^63"):
            agents.SNES.resume(run, steps=steps)
    assert agents.SNES.resume(run, steps=200).steps >= 200


def test_a_config_describes_its_environments_options_and_how_copies_run():
    bound = functools.partial(envs.make, "Catch", asynchronous=True, seed=3, num_envs=2)
    described = envs.factory(bound).description
    assert described == {"name": "Catch", "options": {"asynchronous": True}}
    assert env_factory({"env": described}, "run").description == described
    for name in ("name_or_factory", "num_envs", "seed", "filmed"):
        damaged = {"env": {"name": "Catch", "options": {name: 3}}}
        with pytest.raises(BadInputError, match=rf"config.json is damaged: '{name}' is no option of an environment"):
            env_factory(damaged, "run")
    made = env_factory({"env": {"name": "Catch", "options": {"env": 3}}}, "run")  # a keyword of the factory itself
    with pytest.raises(BadInputError, match="has no option 'env'"):
        made(num_envs=1, seed=0)


def test_a_game_is_played_whole_however_it_was_trained():
    ways = {"single_episode": True, "restorable": True, "asynchronous": True, "life_loss": True}
    run = Run("run", {"env": {"name": "Pong", "options": {"frame_size": 42} | ways}})
    name, options = env_to_play(run, {"frame_stack": 2})
    assert (name, options) == ("Pong", {"frame_size": 42, "asynchronous": True, "frame_stack": 2})
    envs.make_filmed(name, 0, **options).env.close()


def test_a_run_goes_on_with_its_learned_rewards(tmp_path):
    described = {"kind": "novelty", "weight": 2.0}
    common = {"seed": 0, "steps": 9, "config": {}, "target_score": None, "backbone": "mlp", "rewards": described}
    Run.create(tmp_path / "named", common | {"agent": "trpo", "env": {"name": "CartPole-v1", "options": {}}})
    Run.create(tmp_path / "own", common | {"agent": "trpo", "env": None})
    for run, env in [("named", None), ("named", "CartPole-v1"), ("own", toys.Matching)]:
        assert construction.to_resume(tmp_path / run, env, None)[1].weight == 2.0
    with pytest.raises(BadInputError, match="made by code"):
        construction.to_resume(tmp_path / "own", None, None)

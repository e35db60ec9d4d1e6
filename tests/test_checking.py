"""The doctor: it finds nothing wrong where all is right, and what is wrong where something is."""

import functools
import json

import pytest

import agents
import envs
from agents.trpo_checks import check_trust_region
from rlab.ops.distributions import Categorical
from rlab.schedules import Schedule


def _checks(backbone="mlp", env="CartPole-v1"):
    vectors = env == "Pendulum-v1"
    config = agents.TRPO.Config(
        batch_size=256, parallel_envs=8, critic_minibatch=64, max_kl=0.01, normalize_observations=vectors
    )
    factory = functools.partial(envs.make, env, **({"frame_size": 42} if env == "Pong" else {}))
    learner = agents.TRPO(config, factory, backbone).learner(Schedule(10**9))
    next(learner.updates())
    return check_trust_region(learner.policy, learner.params, learner.play()[0], learner.region)


@pytest.mark.parametrize(
    ("backbone", "env"), [("mlp", "CartPole-v1"), ("highway", "Pendulum-v1"), ("lstm", "TMaze"), ("small-cnn", "Pong")]
)
def test_nothing_is_wrong_where_all_is_right(backbone, env):
    checks = _checks(backbone, env)
    assert len(checks) == 10
    assert all(check.passed for check in checks), [check for check in checks if not check.passed]


def test_a_wrong_fisher_information_is_found(monkeypatch):
    monkeypatch.setattr(Categorical, "fisher_product", lambda self, tangent: Categorical(1.5 * tangent.logits))
    failed = {check.name for check in _checks() if not check.passed}
    assert "Fisher products are finite differences of the divergence's gradient" in failed


def test_a_wrong_divergence_is_found(monkeypatch):
    right = Categorical.kl
    monkeypatch.setattr(Categorical, "kl", lambda self, other: 0.5 * right(self, other))
    failed = {check.name for check in _checks() if not check.passed}
    assert "Fisher products are finite differences of the divergence's gradient" in failed


def test_from_the_command_line(launch, tmp_path):
    trained = launch("trpo", "--env", "CartPole-v1", "--steps", "4096", "--run", "run")
    assert trained.returncode == 0, trained.stderr
    said = launch("doctor", "trpo", "run")
    assert said.returncode == 0, said.stderr
    assert [line[:6] for line in said.stdout.splitlines()] == ["ok    "] * 10
    found = json.loads(launch("doctor", "trpo", "run", "--json").stdout)
    assert found["passed"] is True
    other = launch("doctor", "a3c", "run")
    assert other.returncode == 2
    assert len(other.stderr.splitlines()) == 1

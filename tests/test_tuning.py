import dataclasses
import math

import numpy as np
import pytest

import agents
import envs
from agents import AGENTS, construction, tuning
from rlab.errors import BadInputError
from rlab.policies.backbone_names import BACKBONES
from rlab.settings import check, from_settings


@pytest.mark.parametrize("agent", AGENTS)
def test_tuned_settings_fit_their_environments(agent):
    for name in [*tuning.tuned_names(agent), "Breakout", "Acrobot-v1"]:
        settings = tuning.tuned(agent, envs.resolve(name), envs.is_atari(envs.resolve(name)))
        check(from_settings(getattr(agents, AGENTS[agent]).Config, settings["config"]))
        assert settings["steps"] > 0
        assert settings["target_score"] is None or np.isfinite(settings["target_score"])
        assert settings["backbone"] is None or settings["backbone"] in BACKBONES
        assert settings["env"].keys() <= envs.options(name).keys()


def test_an_unknown_setting_gets_the_nearest():
    with pytest.raises(BadInputError, match="'learning_rate'"):
        from_settings(agents.A3C.Config, {"learnin_rate": 1.0})


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        agents.A3C.Config().workers = 3


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None), (100, 5.0)),
        ((None, 7.0), (100, 7.0)),
        ((None, math.inf), (100, None)),  # the tuned score is not to end it
        ((50, None), (50, None)),
        ((50.0, 7.0), (50, 7.0)),
    ],
)
def test_the_length_of_a_training(given, expected):
    chosen = construction.Chosen(None, None, None, 0, steps=100, target_score=5.0)
    assert chosen.length(*given) == expected

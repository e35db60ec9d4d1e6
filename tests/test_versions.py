"""A run of version 0.1: what it does is what it did."""

import json
import shutil

import numpy as np
import pytest
from conftest import ROOT

import agents
import rlab

OLD = ROOT / "tests" / "data" / "version-0.1"


@pytest.mark.parametrize("kind", ["mode", "sample"])
def test_its_policy_acts_as_it_did(kind):
    """Actions of Pendulum, bounds ±2, were clipped to the bounds and not scaled to them."""
    recorded = json.loads((OLD / "actions.json").read_text())
    policy = rlab.load_policy(OLD, seed=7)
    if kind == "sample":  # of the second step: the first was the mode
        policy.act(np.float32(recorded["observations"]), ())
    actions, _ = policy.act(np.float32(recorded["observations"]), (), deterministic=kind == "mode")
    np.testing.assert_allclose(actions, recorded[kind], atol=1e-4)


def test_it_is_resumed_by_its_own_rules(tmp_path):
    run = shutil.copytree(OLD, tmp_path / "run")
    described = (run / "policy" / "architecture.json").read_bytes()
    assert agents.TRPO.resume(run, steps=6144).steps == 6144
    assert (run / "policy" / "architecture.json").read_bytes() == described
    assert np.isfinite(rlab.load_policy(run).parameters).all()

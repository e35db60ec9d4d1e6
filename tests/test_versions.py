"""A run of version 0.1: what it does is what it did."""

import json
import shutil

import numpy as np
from conftest import ROOT

import agents
import rlab

OLD = ROOT / "tests" / "data" / "version-0.1"


def test_its_policy_acts_as_it_did():
    """Actions of Pendulum, bounds ±2, were clipped to the bounds and not scaled to them."""
    recorded = json.loads((OLD / "actions.json").read_text())
    seen, policy = np.float32(recorded["observations"]), rlab.load_policy(OLD, seed=7)
    actions, _ = policy.act(seen, (), deterministic=True)
    np.testing.assert_allclose(actions, recorded["mode"], atol=1e-4)
    drawn = np.stack([policy.act(seen, ())[0] for _ in range(1000)])
    np.testing.assert_allclose(np.median(drawn, axis=0), recorded["mode"], atol=0.25)
    assert (drawn.min(), drawn.max()) == (-2.0, 2.0)


def test_it_is_resumed_by_its_own_rules(tmp_path):
    run = shutil.copytree(OLD, tmp_path / "run")
    described = (run / "policy" / "architecture.json").read_bytes()
    assert agents.TRPO.resume(run, steps=6144).steps == 6144
    assert (run / "policy" / "architecture.json").read_bytes() == described
    assert np.isfinite(rlab.load_policy(run).parameters).all()

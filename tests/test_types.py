"""Types cross the borders of packages: mypy finds what is wrong in code that uses them."""

import re
import subprocess
import sys

from conftest import ROOT

# Each line of these is one error of a user's, in research code that lies outside the packages.
PLANTED = """
import numpy as np
import agents, envs, rlab
from rlab import ops, policies, runs

agents.A4C
agents.A3C.Config(worker=3)
agents.TRPO.Config(batch_size="large")
agents.RPG.Config().episodes
agents.SNES(agents.TRPO.Config(), env="CartPole-v1")
agents.A3C(env="Pong").train()
agents.A3C(env="Pong").train("run", steps="many")
policies.Polcy
policies.build(None, None, backbone=3)
policies.Policy.describe(1)
policies.compile_acting()
ops.returns.n_steps_return
ops.returns.discounted_returns(np.zeros((3, 2), np.float32))
ops.distributions.Categorical(logits=1.0).log_probability
ops.trust_region.conjugate_gradient(b=1.0)
runs.Checkpoint(steps=1, arrays={})
runs.Run.open(3)
envs.maker("Pong")
envs.make("Pong", num_envs="two")
rlab.load_polcy("run")
rlab.load_policy("run").act(np.zeros(4), (), determinstic=True)
rlab.load_policy(3)
rlab.sampling.evaluation.play_episodes("policy", "Pong", episodes=1, seed=0)
rlab.schedules.Schedule(steps="many")
"""


def test_mypy_reports_every_error_at_a_border(tmp_path):
    source = tmp_path / "planted.py"
    source.write_text(PLANTED)
    words = ["--config-file", str(ROOT / "pyproject.toml"), "--no-error-summary", str(source)]
    done = subprocess.run([sys.executable, "-m", "mypy", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    found = {int(line) for line in re.findall(r"planted\.py:(\d+): error", done.stdout)}
    first = PLANTED.splitlines().index("agents.A4C") + 1
    planted = range(first, len(PLANTED.splitlines()) + 1)
    missed = [PLANTED.splitlines()[line - 1] for line in planted if line not in found]
    assert not missed, done.stdout
    assert len(planted) >= 20

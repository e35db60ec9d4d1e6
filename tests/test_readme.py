"""The README's examples, run as they stand: they learn what it says."""

import re

import numpy as np
from conftest import ROOT

from rlab.sampling.evaluation import play_episodes


def test_the_readme_s_code_learns_cartpole(tmp_path, monkeypatch):
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert snippets
    monkeypatch.chdir(tmp_path)
    known = {}
    for snippet in snippets:
        exec(snippet, known)
    assert known["action"].shape == (8,)
    played = play_episodes(known["policy"], "CartPole-v1", 20, seed=1)
    assert np.mean([episode.score for episode in played]) >= 400.0

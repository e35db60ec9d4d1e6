"""The map in docs/architecture.md: every function that an update of an agent reaches lies in the files it names."""

import re
import sys
import threading

import pytest
import toys
from conftest import ROOT

import agents
from rlab.schedules import Schedule

_MAP = (ROOT / "docs" / "architecture.md").read_text().partition("## What to open")[2].partition("## Notation")[0]
_ALGORITHMS, _FOUNDATIONS = (table for table in re.split(r"\n\| (?:algorithm|foundation) .*\n", _MAP)[1:])
_MOST_FILES, _MOST_LINES = 5, 900

# The first learning settings of each, small; numbers that no other test has, so that nothing is compiled before.
AGENTS = {
    "A3C": lambda: agents.A3C(agents.A3C.Config(workers=1, envs_per_worker=3), "CartPole-v1"),
    "TRPO": lambda: agents.TRPO(agents.TRPO.Config(batch_size=66, parallel_envs=3, critic_minibatch=33), toys.Matching),
    "RPG": lambda: agents.RPG(agents.RPG.Config(episodes_per_batch=3), "TMaze", "lstm"),
    "SNES": lambda: agents.SNES(agents.SNES.Config(population=6, group=6, sigma=0.123), toys.Matching),
}


def _files(text):
    return re.findall(r"`((?:rlab|agents|envs)/(?:[\w/]*(?:\.py|/))?)`", text)


def _reached(learner):
    """The project's files in which functions are called in one update, in any thread."""
    found = set()

    def look(frame, event, argument):
        if event == "call" and frame.f_code.co_name != "<module>":
            found.add(frame.f_code.co_filename)

    threading.setprofile(look)
    sys.setprofile(look)
    try:
        updates = learner.updates()
        while next(updates) is None:
            pass
        updates.close()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        learner.close()
    inside = {name.removeprefix(f"{ROOT}/") for name in found if name.startswith(f"{ROOT}/")}
    return {name for name in inside if name.split("/")[0] in ("rlab", "agents", "envs")}


@pytest.mark.parametrize("name", AGENTS)
def test_the_map_of_an_algorithm_is_complete_and_short(name):
    (line,) = re.findall(rf"^\| {name} \| (.*)$", _ALGORITHMS, re.MULTILINE)
    listed, foundations = _files(line), _files(_FOUNDATIONS)
    assert len(listed) <= _MOST_FILES
    assert sum(len((ROOT / file).read_text().splitlines()) for file in listed) <= _MOST_LINES
    reached = _reached(AGENTS[name]().learner(Schedule(10**9)))
    left = {file for file in reached if file not in listed and not file.startswith(tuple(foundations))}
    assert not left, f"an update of {name} reaches {sorted(left)}"
    assert set(listed) <= reached, f"an update of {name} does not reach all that is listed"


def test_the_map_names_files_that_there_are():
    for file in _files(_MAP):
        assert (ROOT / file).exists(), file

"""The vine: several actions tried from the same states of a trajectory, so that their worth is told apart from luck.

Schulman et al., "Trust region policy optimization", ICML 2015, section 5.2. The environment is put back to a state for
each action, with its random numbers; the policy's are the same too, so that what follows differs by the action alone
(common random numbers). Rewards that are learned are put back too: what a model learned in one branch the next must not
feel, so a branch is worth what the trajectory itself would have got there, in whatever order branches are tried. (A
model that learned nothing in branches would give the same reward again and again for what is new once.)
"""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from rlab.sampling.rollout import Collector
from rlab.state import Stateful, pack
from rlab.types import Branches, Episode, Trajectory

SAMPLES = 4  # actions to a state where they cannot all be tried


def actions_to_try(space: gym.Space, count: int) -> tuple[int, bool]:
    """The number of actions to try in each state, and whether these are all; `count` 0 is all, where possible."""
    everything = int(space.n) if isinstance(space, gym.spaces.Discrete) else 0
    return (everything, True) if count == 0 and everything else (count or SAMPLES, False)


def collect(
    collector: Collector,
    params: Any,
    segments: int,
    spacing: int,
    length: int,
    count: int,
    advantages: Callable[..., Any],
    learned: Stateful | None = None,
) -> tuple[Trajectory, list[Episode], Branches]:
    """A trajectory of `segments` × `spacing` steps, with branches from where each segment begins.

    Args:
        collector: of B environments that can be saved, given an acting step that is told its actions.
        params: of the policy, [D].
        segments: states from which branches go, in each environment.
        spacing: steps from one to the next.
        length: steps of a branch; what would follow is the critic's to say.
        count: actions to a state, as `actions_to_try` takes it.
        advantages: generalized advantages, compiled, as `ops.returns.generalized_advantage`.
        learned: the model of the environments' rewards, if they are learned; what it learns in a branch is forgotten.
    """
    number, exhaustive = actions_to_try(collector.env.single_action_space, count)
    B = collector.env.num_envs
    parts: list[Trajectory] = []
    episodes: list[Episode] = []
    actions: list[np.ndarray] = []
    values: list[list[np.ndarray]] = []
    for _ in range(segments):
        here = collector.save()
        assert here is not None
        known = pack(learned.state()) if learned else {}
        if exhaustive:
            tried = [np.full(B, action, np.int32) for action in range(number)]
        else:
            tried = [collector.draw(params, stream) for stream in range(number)]
        actions.append(np.stack(tried))
        values.append([])
        for first in tried:
            branch, _ = collector.collect(params, length, first)
            values[-1].append(_worth(branch, advantages))
            collector.load(here)
            if learned:
                learned.restore(known)
        part, ended = collector.collect(params, spacing)
        parts.append(part)
        episodes += ended
    steps = np.arange(segments)[:, None] * spacing * B + np.arange(B)
    branches = Branches(
        steps.ravel().astype(np.int32),
        np.concatenate(actions, axis=1),
        np.concatenate([np.stack(each) for each in values], axis=1),
        np.float32(not exhaustive),
    )
    names = [name for name in Trajectory._fields if name != "state"]
    whole = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Trajectory(**whole, state=parts[0].state), episodes, branches


def _worth(branch: Trajectory, advantages: Callable[..., Any]) -> np.ndarray:
    """Discounted rewards up to the episode's end, or to the branch's and the critic's value of what follows, [B]."""
    rewards = branch.rewards, branch.discounts, branch.boundaries
    return (advantages(*rewards, branch.values, branch.next_values, 1.0).numpy() + branch.values)[0]

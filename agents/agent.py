"""What the agents whose ranks are in step have in common: from learners to a run."""

import functools
from collections.abc import Sequence
from typing import Any

from rlab import policies, runs
from rlab.parallel import comm, threads


def drive(
    agent: Any,
    beginning: "runs.Beginning",
    ranks: "Sequence[comm.Communicator]",
    learners: Sequence[Any],
    shown: Sequence[str],
    deterministic: bool = False,
) -> "runs.TrainingResult":
    """Train with a learner to each of this process's ranks (`threads.ranks_of`) until all steps are made.

    `shown` are the metrics of the progress display; `deterministic` is whether the policy plays its likeliest actions.
    """
    run, steps, *_ = beginning
    if agent.comm.rank == 0:
        runs.save_architecture(run.path, agent.policy, deterministic)
    first = learners[0]
    return runs.run_loop(
        run,
        threads.together(ranks, [one.updates() for one in learners]),
        first.checkpoint,
        steps,
        first.steps,
        graph=functools.partial(policies.trace_graph, agent.policy),
        shown=shown,
        comm=agent.comm,
        env=agent.env,
        close=lambda: _close(learners),
    )


def _close(learners: Sequence[Any]) -> None:
    for one in learners:
        one.close()

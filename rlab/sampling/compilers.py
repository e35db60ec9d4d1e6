"""The compiler of a policy's gradient: timed on this machine, on a rollout of zeros."""

from collections.abc import Callable
from typing import Any

import numpy as np

from rlab.notify import notify
from rlab.ops import compiling
from rlab.policies.policy import Policy
from rlab.sampling.rollout import blank


def fastest_gradient(
    compile_gradient: Callable[[str], Callable[..., Any]], policy: Policy, length: int, rows: int, precision: str
) -> str:
    """The compiler whose gradient of a rollout [length, rows] takes the least time, which is said in a line.

    `compile_gradient` gives for a compiler's name a function of (parameters [D], Trajectory, a scalar) whose first
    result is the gradient. What was timed is kept for the next time (`rlab.ops.compiling.fastest`).
    """
    batch, params, nothing = blank(policy, length, rows), policy.initial_parameters(0), np.zeros((), np.float32)

    def call(compiler: str) -> Callable[[], Any]:
        gradient = compile_gradient(compiler)
        return lambda: gradient(params, batch, nothing)[0].numpy()

    calls = {compiler: call(compiler) for compiler in compiling.COMPILERS}
    chosen, seconds = compiling.fastest(calls, "a3c", policy.describe(), policy.size, length, rows, precision)
    told = ", ".join(f"{name} {1e3 * taken:.1f} ms" for name, taken in seconds.items())
    notify(f"compiler {chosen}: a gradient takes by {told} on this machine; --compiler sets it")
    return chosen

"""Trust regions: the natural gradient by conjugate gradient, and a step that stays within the region.

Schulman, Levine, Moritz, Jordan, Abbeel: "Trust region policy optimization" (TRPO), ICML 2015, section 6, appendix C.
Parameters are values: a function here is given some and returns others, and a step that is rejected changes nothing.
Everything runs as well eagerly as inside a compiled function; what `matvec` and `evaluate` compute may come from many
ranks.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from rlab.ops.distributions import Distribution

MatVec = Callable[[tf.Tensor], tf.Tensor]  # v [D] -> A v [D]


class Solution(NamedTuple):
    """The solution of A x = b."""

    x: tf.Tensor  # float [D]
    residual: tf.Tensor  # float scalar, ‖b − A x‖₂


def conjugate_gradient(matvec: MatVec, b: tf.Tensor, iterations: int = 10, tolerance: float = 1e-10) -> Solution:
    """x ≈ A⁻¹ b for a symmetric positive-definite A, float [D] (Hestenes and Stiefel 1952).

    Begins at x = 0 and ends after so many iterations, or once ‖b − A x‖² is at most `tolerance`. Along a direction in
    which A curves not upward (pᵀAp ≤ 0 or not finite) there is no step: the x so far is the result.
    """

    def body(i: tf.Tensor, x: tf.Tensor, r: tf.Tensor, p: tf.Tensor, rr: tf.Tensor, _: tf.Tensor) -> tuple:
        product = matvec(p)
        curvature = tf.tensordot(p, product, 1)
        upward = (curvature > 0.0) & tf.math.is_finite(curvature)
        size = tf.where(upward, rr / tf.where(upward, curvature, 1.0), 0.0)
        x, r = x + size * p, r - size * tf.where(upward, product, 0.0)
        following = tf.tensordot(r, r, 1)
        return i + 1, x, r, r + following / rr * p, following, upward

    b = tf.convert_to_tensor(b)
    rr = tf.tensordot(b, b, 1)
    _, x, _, _, rr, _ = tf.while_loop(
        lambda i, x, r, p, rr, upward: (i < iterations) & (rr > tolerance) & upward,
        body,
        (tf.constant(0), tf.zeros_like(b), b, b, rr, tf.constant(True)),
        maximum_iterations=iterations,
    )
    return Solution(x, tf.sqrt(rr))


def fisher_matvec(distribution: Callable[[tf.Tensor], Distribution], params: tf.Tensor) -> MatVec:
    """The function v ↦ F v, float [D], F the mean Fisher information of all that `distribution(params)` holds.

    F = E[Jᵀ M J], with J the Jacobian of the distribution's own parameters and M their Fisher information, which is
    known in closed form (Gauss-Newton; TRPO, appendix C.1). At these parameters it is the Hessian of the mean KL. J v
    is the derivative of Jᵀu with respect to u (two backward passes in place of a forward one), which works through any
    memory's loop and costs less than differentiating the KL twice. What does not depend on v is computed once.
    """
    with tf.GradientTape(persistent=True) as outer:
        with tf.GradientTape(persistent=True) as inner:
            inner.watch(params)
            given = distribution(params)
            parts = tf.nest.flatten(given)
        probes = [tf.zeros_like(part) for part in parts]
        outer.watch(probes)
        pulled = inner.gradient(parts, params, output_gradients=probes)
    count = tf.cast(tf.size(given.entropy()), params.dtype)

    def matvec(vector: tf.Tensor) -> tf.Tensor:
        tangent = outer.gradient(pulled, probes, output_gradients=tf.stop_gradient(vector))
        product = given.fisher_product(tf.nest.pack_sequence_as(given, tangent))
        weighted = [part / count for part in tf.nest.flatten(product)]
        return inner.gradient(parts, params, output_gradients=weighted)

    return matvec


def fisher_vector_product(
    distribution: Callable[[tf.Tensor], Distribution], params: tf.Tensor, vector: tf.Tensor, damping: float = 0.0
) -> tf.Tensor:
    """The Fisher-vector product with damping, (F + damping · I) v, float [D], with F as in `fisher_matvec`."""
    return fisher_matvec(distribution, params)(vector) + damping * vector


class LineSearch(NamedTuple):
    """The result of a line search."""

    params: tf.Tensor  # float [D]; those before, bit for bit, when nothing was accepted
    fraction: tf.Tensor  # of the full step; 0 when nothing was accepted
    improvement: tf.Tensor  # of the surrogate; 0 when nothing was accepted
    kl: tf.Tensor  # from the old parameters to `params`


def line_search(
    evaluate: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    params: tf.Tensor,
    step: tf.Tensor,
    max_kl: float,
    backtrack: float = 0.8,
    attempts: int = 10,
) -> LineSearch:
    """The largest of θ + αᵏ s, k = 0, 1, …, attempts − 1, that raises the surrogate and whose KL is within the region.

    `evaluate` gives the surrogate to be raised and the mean KL(θ ‖ ·) of parameters [D]; `step` is s [D], `backtrack`
    is α in (0, 1), `max_kl` is δ. Nothing that is not finite is accepted.
    """
    before, _ = evaluate(params)

    def body(k: tf.Tensor, fraction: tf.Tensor, *_: tf.Tensor) -> tuple:
        surrogate, kl = evaluate(params + fraction * step)
        accepted = (surrogate > before) & (kl <= max_kl) & tf.math.is_finite(surrogate) & tf.math.is_finite(kl)
        return k + 1, tf.where(accepted, fraction, fraction * backtrack), surrogate, kl, accepted

    one, zero = tf.ones_like(before), tf.zeros_like(before)
    _, fraction, surrogate, kl, accepted = tf.while_loop(
        lambda k, fraction, surrogate, kl, accepted: ~accepted,
        body,
        (tf.constant(0), one, before, zero, tf.constant(False)),
        maximum_iterations=attempts,
    )
    # A product with 0 would be NaN where the step is not finite.
    return LineSearch(
        tf.where(accepted, params + fraction * step, params),
        tf.where(accepted, fraction, zero),
        tf.where(accepted, surrogate - before, zero),
        tf.where(accepted, kl, zero),
    )


class Step(NamedTuple):
    """A step within the trust region, and what a researcher wants to know of it; all but `params` float scalars."""

    params: tf.Tensor  # float [D]
    fraction: tf.Tensor  # of the full step that was accepted; 0: the old parameters are kept
    improvement: tf.Tensor  # of the surrogate
    kl: tf.Tensor  # mean KL(old ‖ new), nats
    predicted_improvement: tf.Tensor  # gᵀ times the accepted step
    predicted_kl: tf.Tensor  # ½ of the quadratic form of F, without damping, at the accepted step
    curvature: tf.Tensor  # sᵀHs of the direction s, damping included
    cg_residual: tf.Tensor  # ‖g − H s‖₂ over ‖g‖₂
    gradient_norm: tf.Tensor  # ‖g‖₂


def trust_region_step(
    evaluate: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    gradient: tf.Tensor,
    direction: tf.Tensor,
    product: tf.Tensor,
    params: tf.Tensor,
    max_kl: float,
    damping: float = 0.0,
    backtrack: float = 0.8,
    attempts: int = 10,
) -> Step:
    """One update of TRPO (appendix C): s ≈ H⁻¹ g, β = √(2δ / sᵀHs), then backtracking from θ + β s.

    `gradient` is g [D] of the surrogate at `params` θ, `direction` s and `product` H s, with H the damped Fisher
    information and `damping` what it has on its diagonal; `max_kl` is δ; `evaluate` as in `line_search`. A curvature
    that is not positive, anything that is not finite, and a search that finds nothing, keep θ, bit for bit.
    """
    curvature = tf.tensordot(direction, product, 1)
    curved = (curvature > 0.0) & tf.math.is_finite(curvature)
    size = tf.where(curved, tf.sqrt(2.0 * max_kl / tf.where(curved, curvature, 1.0)), 0.0)
    full = size * direction
    undamped = curvature - damping * tf.tensordot(direction, direction, 1)
    found = line_search(evaluate, params, full, max_kl, backtrack, attempts)
    return Step(
        *found,
        predicted_improvement=tf.where(curved, found.fraction * tf.tensordot(gradient, full, 1), 0.0),
        predicted_kl=tf.where(curved, 0.5 * tf.square(found.fraction * size) * undamped, 0.0),
        curvature=curvature,
        cg_residual=tf.norm(gradient - product) / tf.maximum(tf.norm(gradient), 1e-30),
        gradient_norm=tf.norm(gradient),
    )

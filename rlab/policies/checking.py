"""Whether the trust region of a policy is what it should be, on data of its own: each check is a slow way to know."""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rlab.ops import trust_region
from rlab.parallel.comm import Serial
from rlab.policies.policy import Policy
from rlab.policies.trust import Batch, TrustRegion, compile_trust_step, distribution_of, log_probabilities, surrogate

_DIFFERENCES = (3e-2, 1e-2, 3e-3)  # lengths of steps; float32 needs long ones, a kink of a ReLU short ones
_CLOSE = 0.05  # relative error that passes


class Check(NamedTuple):
    """One verdict."""

    name: str
    passed: bool
    found: str


def check_trust_region(policy: Policy, params: tf.Tensor, batch: Batch, region: TrustRegion) -> list[Check]:
    """Verdicts on Fisher products, the gradient and a step, at parameters [D] and a batch of their own play."""
    distribution = functools.partial(distribution_of, policy, batch=batch)
    old = distribution(params)
    product = tf.function(functools.partial(trust_region.fisher_vector_product, distribution, params), autograph=False)
    slope = tf.function(functools.partial(_slope, distribution, old), autograph=False)
    directions = [_unit(policy.learned * tf.random.stateless_normal(params.shape, (0, seed))) for seed in range(3)]
    products = [product(direction) for direction in directions]
    errors = [
        min(_error((slope(params + h * v) - slope(params - h * v)) / (2.0 * h), fv) for h in _DIFFERENCES)
        for v, fv in zip(directions, products, strict=True)
    ]
    forth, back = (float(tf.tensordot(directions[i], products[1 - i], 1)) for i in (0, 1))
    curvatures = [float(tf.tensordot(v, fv, 1)) for v, fv in zip(directions, products, strict=True)]
    scale = max(np.sqrt(abs(curvatures[0] * curvatures[1])), 1e-30)
    gradient, gradient_error = _gradient(distribution, params, batch, old)
    step, _ = compile_trust_step(policy, Serial(), region)(params, batch, tf.constant(region.max_kl))
    kl, predicted, residual = float(step.kl), float(step.predicted_kl), float(step.cg_residual)
    new = distribution(step.params)
    ratios = (old.log_prob(batch.actions) - new.log_prob(batch.actions)).numpy().ravel()
    spread = ratios.std() / np.sqrt(ratios.size)
    taken = float(step.fraction) > 0.0
    checks = [
        Check("parameters are finite", bool(np.isfinite(params).all()), f"{policy.size:,} of them"),
        Check(
            "Fisher products are finite differences of the divergence's gradient",
            max(errors) < _CLOSE,
            f"{100 * max(errors):.2g} % off at most, in three directions",
        ),
        Check("the Fisher information is symmetric", abs(forth - back) < 1e-3 * scale, f"{forth:.6g} and {back:.6g}"),
        Check("and positive", min(curvatures) >= 0.0, f"{min(curvatures):.3g} at least, in three directions"),
        Check(
            "the surrogate's gradient is that of finite differences",
            gradient_error < _CLOSE,
            f"{100 * gradient_error:.2g} % off, norm {float(tf.norm(gradient)):.3g}",
        ),
        Check("conjugate gradient makes progress", residual < 1.0, f"residual {residual:.3g} of the gradient"),
        Check("a step stays within the region", kl <= region.max_kl, f"KL {kl:.4g} of {region.max_kl:g}"),
        Check(
            "a step is accepted, or nothing changes",
            taken or bool((step.params.numpy() == np.asarray(params)).all()),
            f"fraction {float(step.fraction):.3g}, improvement {float(step.improvement):.3g}",
        ),
        Check(
            "the quadratic model predicts the divergence",
            not taken or 0.2 < kl / max(predicted, 1e-30) < 5.0,
            f"{predicted:.4g} predicted",
        ),
        Check(
            "the divergence is the mean log ratio of the actions played",
            abs(ratios.mean() - kl) < 4.0 * spread + 1e-6,
            f"{ratios.mean():.4g} ± {spread:.2g}",
        ),
    ]
    return [check._replace(passed=bool(check.passed)) for check in checks]  # not NumPy's


def _slope(distribution, old, params: tf.Tensor) -> tf.Tensor:  # type: ignore[no-untyped-def]
    """The gradient of the mean divergence from `old`."""
    with tf.GradientTape() as tape:
        tape.watch(params)
        divergence = tf.reduce_mean(old.kl(distribution(params)))
    return tape.gradient(divergence, params)


def _gradient(distribution, params: tf.Tensor, batch: Batch, old) -> tuple[tf.Tensor, float]:  # type: ignore[no-untyped-def]
    """The surrogate's gradient, and the relative error of its norm against finite differences along it."""

    doubled = _in_double(batch)
    before = tf.cast(log_probabilities(old, batch), tf.float64)

    def value_at(at: tf.Tensor) -> float:
        return float(surrogate(tf.cast(log_probabilities(distribution(at), batch), tf.float64), before, doubled))

    with tf.GradientTape() as tape:
        tape.watch(params)
        log_prob = log_probabilities(distribution(params), batch)
        value = surrogate(log_prob, tf.stop_gradient(log_prob), batch)
    gradient = tape.gradient(value, params)
    norm, v = float(tf.norm(gradient)), _unit(gradient)
    slopes = [(value_at(params + h * v) - value_at(params - h * v)) / (2.0 * h) for h in _DIFFERENCES]
    return gradient, min(abs(slope - norm) for slope in slopes) / max(norm, 1e-30)


def _in_double(batch: Batch) -> Batch:
    """With what the surrogate weighs in double precision: differences of it are small."""
    branches = batch.branches
    if branches is not None:
        branches = branches._replace(values=branches.values.astype(np.float64), sampled=np.float64(branches.sampled))
    return batch._replace(advantages=batch.advantages.astype(np.float64), branches=branches)


def _unit(vector: tf.Tensor) -> tf.Tensor:
    return vector / tf.maximum(tf.norm(vector), 1e-30)


def _error(found: tf.Tensor, exact: tf.Tensor) -> float:
    return float(tf.norm(found - exact) / tf.maximum(tf.norm(exact), 1e-30))

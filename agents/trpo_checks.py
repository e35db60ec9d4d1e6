"""Checks of TRPO's own functions on a batch that the policy played, each against a slow way to compute the same."""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from agents import trpo
from rlab.ops.distributions import Distribution
from rlab.parallel.comm import Serial
from rlab.policies import Batch, Policy, distribution_of, log_probabilities

_DIFFERENCES = (3e-2, 1e-2, 3e-3)  # lengths of steps; float32 needs long ones, a kink of a ReLU short ones
_CLOSE = 0.05  # relative error that passes


class Check(NamedTuple):
    """The verdict of one check."""

    name: str
    passed: bool
    found: str


def check_trust_region(policy: Policy, params: tf.Tensor, batch: Batch, region: trpo.TrustRegion) -> list[Check]:
    """Verdicts on Fisher-vector products, the gradient and a step, at parameters [D] and a batch that they played."""
    old = distribution_of(policy, params, batch)
    product = tf.function(functools.partial(trpo.fisher_product, policy), autograph=False)
    slope = tf.function(functools.partial(_divergence_slope, policy), autograph=False)
    directions = [
        _unit(policy.trainable_mask * tf.random.stateless_normal(params.shape, (0, seed))) for seed in range(3)
    ]
    products = [product(params, batch, direction) for direction in directions]
    errors = [
        min(
            _error((slope(params + h * v, batch, old) - slope(params - h * v, batch, old)) / (2.0 * h), fv)
            for h in _DIFFERENCES
        )
        for v, fv in zip(directions, products, strict=True)
    ]
    forth, back = (float(tf.tensordot(directions[i], products[1 - i], 1)) for i in (0, 1))
    curvatures = [float(tf.tensordot(v, fv, 1)) for v, fv in zip(directions, products, strict=True)]
    scale = max(np.sqrt(abs(curvatures[0] * curvatures[1])), 1e-30)
    gradient, gradient_error = _gradient(policy, region, params, batch)
    step, _ = trpo.compile_step(policy, Serial(), region)(params, batch, tf.constant(region.max_kl))
    kl, predicted, residual = float(step.kl), float(step.predicted_kl), float(step.cg_residual)
    new = distribution_of(policy, step.params, batch)
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


def _divergence_slope(policy: Policy, params: tf.Tensor, batch: Batch, old: Distribution) -> tf.Tensor:
    """The gradient of the mean divergence from `old`."""
    with tf.GradientTape() as tape:
        tape.watch(params)
        divergence = tf.reduce_mean(old.kl(distribution_of(policy, params, batch)))
    return tape.gradient(divergence, params)


def _gradient(policy: Policy, region: trpo.TrustRegion, params: tf.Tensor, batch: Batch) -> tuple[tf.Tensor, float]:
    """The agent's gradient of L, and the relative error of its norm against finite differences of L along it."""
    gradient, _, old = trpo.gradient(policy, region, params, batch)
    doubled, before = _in_double(batch), tf.cast(log_probabilities(old, batch), tf.float64)

    def value_at(at: tf.Tensor) -> float:
        now = distribution_of(policy, at, batch)
        value = trpo.surrogate(tf.cast(log_probabilities(now, batch), tf.float64), before, doubled)
        return float(value + region.entropy_weight * tf.reduce_mean(tf.cast(now.entropy(), tf.float64)))

    norm, v = float(tf.norm(gradient)), _unit(gradient)
    slopes = [(value_at(params + h * v) - value_at(params - h * v)) / (2.0 * h) for h in _DIFFERENCES]
    return gradient, min(abs(slope - norm) for slope in slopes) / max(norm, 1e-30)


def _in_double(batch: Batch) -> Batch:
    """The batch with advantages and branches in float64, because differences of the surrogate are small."""
    branches = batch.branches
    if branches is not None:
        branches = branches._replace(values=branches.values.astype(np.float64), sampled=np.float64(branches.sampled))
    return batch._replace(advantages=batch.advantages.astype(np.float64), branches=branches)


def _unit(vector: tf.Tensor) -> tf.Tensor:
    return vector / tf.maximum(tf.norm(vector), 1e-30)


def _error(found: tf.Tensor, exact: tf.Tensor) -> float:
    return float(tf.norm(found - exact) / tf.maximum(tf.norm(exact), 1e-30))

"""Losses as pure functions of a policy's outputs."""

from typing import NamedTuple

import tensorflow as tf

from rlab.ops.distributions import Distribution


class ActorCriticLoss(NamedTuple):
    """The parts of an actor-critic loss, float scalars, each a mean over the batch."""

    total: tf.Tensor
    policy: tf.Tensor
    value: tf.Tensor
    entropy: tf.Tensor


def actor_critic(
    distribution: Distribution,
    values: tf.Tensor,
    actions: tf.Tensor,
    advantages: tf.Tensor,
    returns: tf.Tensor,
    value_weight: float,
    entropy_weight: float,
) -> ActorCriticLoss:
    """−E[ln π(a_t|x_t) A_t + β H(π)] + c E[(R_t − V(x_t))²] (Mnih et al. 2016, section 4 and algorithm S3).

    `distribution` has batch dimensions [...], `actions` is [...] or [..., A]; `values`, `advantages` A_t and `returns`
    R_t are float [...]; β is `entropy_weight`, c is `value_weight`. Neither A_t nor R_t is differentiated. The paper
    sums over the rollout; the mean here makes the learning rate independent of the rollout's length.
    """
    policy = -tf.reduce_mean(distribution.log_prob(actions) * tf.stop_gradient(advantages))
    value = tf.reduce_mean(tf.square(tf.stop_gradient(returns) - values))
    entropy = tf.reduce_mean(distribution.entropy())
    return ActorCriticLoss(policy + value_weight * value - entropy_weight * entropy, policy, value, entropy)

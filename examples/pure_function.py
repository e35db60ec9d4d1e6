"""The policy as a pure function: many parameter vectors through one network, and a gradient at each.

Nothing is set, restored or copied: parameters are arguments.
"""

import numpy as np
import tensorflow as tf

import envs
from rlab.policies import build


def main() -> None:
    env = envs.make("CartPole-v1", num_envs=5, seed=0)
    policy = build(env.single_observation_space, env.single_action_space, "lstm")
    observations = tf.constant(env.reset()[0])[None]  # [T = 1, B = 5, ...]
    resets = tf.ones((1, 5))  # every episode begins here

    params = tf.constant(policy.initial_parameters(seed=0))  # [D]
    with tf.GradientTape() as tape:
        tape.watch(params)
        output, _ = policy.apply(params, observations, policy.initial_state(5), resets)
        entropy = tf.reduce_mean(output.distribution.entropy())
    gradient = tape.gradient(entropy, params)
    print(f"D = {policy.size}, entropy {float(entropy):.4f}, norm of its gradient {float(tf.norm(gradient)):.2e}")

    # The same network at a hundred nearby points, as evolution strategies or a line search would want it.
    for scale in (0.01, 0.1, 1.0):
        noise = np.random.default_rng(0).normal(size=(100, policy.size)).astype(np.float32)
        values = [
            policy.apply(params + scale * row, observations, policy.initial_state(5), resets)[0].values for row in noise
        ]
        print(f"sigma {scale}: the value's deviation over 100 perturbations is {np.std(values):.3f}")


if __name__ == "__main__":
    main()

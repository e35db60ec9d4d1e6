"""An agent of your own, in one file: PPO (Schulman et al. 2017, "Proximal policy optimization algorithms").

    play T steps in K environments under θ_old
    A_t ← generalized advantages, R_t ← A_t + V(x_t)
    ρ_t ← π(a_t|x_t; θ) / π(a_t|x_t; θ_old)
    several passes, in minibatches: θ ← Adam of
        −E[min(ρ_t A_t, clip(ρ_t, 1 − ε, 1 + ε) A_t)] + c E[(R_t − V(x_t))²] − β E[H]

(equations 7 and 9). `agents.Agent` owns the rest: construction, checks, the run on disk, checkpoints, resuming. The
policy must have no memory, since minibatches are of single steps.
"""

import dataclasses
import functools
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import agents
import envs
import rlab
from agents.tuning import Tuned
from rlab import ops, policies, runs
from rlab.environments import EnvironmentFactory
from rlab.errors import BadInputError
from rlab.sampling.evaluation import play_episodes, summarize
from rlab.sampling.rollout import Collector
from rlab.seeding import derive, playing
from rlab.settings import field
from rlab.state import unpack


@dataclasses.dataclass(frozen=True)
class PPOConfig(Tuned, agent="ppo"):
    """Settings of PPO: proximal policy optimization."""

    parallel_envs: int = field(8, "K, environments that step together", low=1)
    rollout_length: int = field(32, "T, steps between updates", low=1)
    epochs: int = field(10, "passes over each batch", low=1)
    minibatches: int = field(2, "parts of a pass", low=1)
    clip: float = field(0.2, "ε, bound on the ratio of probabilities", low=0.0, above=True)
    learning_rate: float = field(1e-3, "step size of Adam, which falls to 0", low=0.0, above=True)
    discount: float = field(0.98, "γ, per step", low=0.0, high=1.0)
    gae_lambda: float = field(0.9, "λ of the generalized advantages", low=0.0, high=1.0)
    value_weight: float = field(0.01, "c, weight of the squared value error", low=0.0)
    entropy_weight: float = field(0.0, "β, weight of the entropy bonus, per nat", low=0.0)


class Learner:
    """One training run of PPO."""

    def __init__(self, setup: agents.Setup[PPOConfig]) -> None:
        self.setup, self.config, self.policy = setup, setup.config, setup.policy
        self.params = tf.constant(self.policy.initial_parameters(derive(setup.seed, "parameters")))
        self.adam, self.steps, self.batches = ops.adam.initial_state(self.policy.size), 0, 0
        self._improve = tf.function(self._one_minibatch, jit_compile=True, autograph=False)

    def updates(self) -> Generator[runs.Update | None, None, None]:
        return agents.in_step(self)

    @property
    def place(self) -> str:
        return f"batch {self.batches}, step {self.steps}"

    @functools.cached_property
    def _collector(self) -> Collector:
        config, seeds = self.config, playing(self.setup.seed, "episodes", self.steps)
        env = self.setup.make_env(config.parallel_envs, seeds.environments)
        act, state = policies.compile_acting(self.policy), self.policy.initial_state(config.parallel_envs)
        return Collector(env, act, state, config.rollout_length, config.discount, seeds.actions)

    def update(self) -> agents.Made:
        """Play, estimate advantages, improve the policy."""
        config = self.config
        played, episodes = self._collector.collect(self.params)
        values = played.rewards, played.discounts, played.boundaries, played.values, played.next_values
        advantages = ops.returns.generalized_advantage(*values, config.gae_lambda).numpy()
        standard = policies.standardized(advantages, self.setup.comm)
        steps = played.observations, played.actions, standard, advantages + played.values
        batch = [part.reshape(-1, *part.shape[2:]) for part in steps]
        old = self._log_prob(self.params, *batch[:2])[0].numpy()
        rate, losses = config.learning_rate * self.setup.schedule.left(self.steps), []
        generator = np.random.default_rng(derive(self.setup.seed, "minibatches", self.batches))
        for _ in range(config.epochs):
            for rows in np.array_split(generator.permutation(len(old)), config.minibatches):
                chosen = [tf.constant(part[rows]) for part in (*batch, old)]
                self.params, self.adam, loss = self._improve(self.params, self.adam, tf.constant(rate), *chosen)
                losses.append(float(loss))
        self.steps, self.batches = self.steps + played.rewards.size, self.batches + 1
        return agents.Made({"loss": float(np.mean(losses))}, episodes, self.params)

    def _log_prob(self, params: Any, observations: Any, actions: Any) -> tuple[Any, Any, Any]:
        """ln π(a|x), V(x) and H at each of N steps."""
        rows = observations.shape[0]
        resets, state = tf.ones((1, rows)), self.policy.initial_state(rows)
        output, _ = self.policy.apply(params, observations[None], state, resets)
        log_prob = output.distribution.log_prob(actions[None])
        return log_prob[0], output.values[0], output.distribution.entropy()[0]

    def _one_minibatch(self, params: Any, adam: Any, rate: Any, *batch: Any) -> Any:
        observations, actions, advantages, returns, old = batch
        config = self.config
        with tf.GradientTape() as tape:
            tape.watch(params)
            log_prob, values, entropy = self._log_prob(params, observations, actions)
            ratio = tf.exp(log_prob - old)
            clipped = tf.clip_by_value(ratio, 1.0 - config.clip, 1.0 + config.clip)
            surrogate = tf.reduce_mean(tf.minimum(ratio * advantages, clipped * advantages))
            error = tf.reduce_mean(tf.square(returns - values))
            loss = config.value_weight * error - surrogate - config.entropy_weight * tf.reduce_mean(entropy)
        return *ops.adam.adam(params, adam, tape.gradient(loss, params), rate), loss

    def state(self) -> dict[str, Any]:
        return {"policy": self.policy.named(self.params.numpy()), "adam": self.adam, "batches": self.batches}

    def restore(self, checkpoint: runs.Checkpoint) -> None:
        """Go on from a checkpoint, with new episodes."""
        found = unpack({"policy": self.policy.named(self.params.numpy()), "adam": self.adam}, checkpoint.arrays)
        self.params, self.adam = tf.constant(self.policy.flatten(found["policy"])), found["adam"]
        self.steps, self.batches = checkpoint.steps, checkpoint.counters["batches"]

    def close(self) -> None:
        if "_collector" in vars(self):
            self._collector.env.close()


class PPO(agents.Agent[PPOConfig]):
    """Learns from several passes over each batch, within a clipped ratio of probabilities."""

    Config, learner_class = PPOConfig, Learner

    def settled(self, config: PPOConfig, policy: policies.Policy, env: EnvironmentFactory) -> PPOConfig:
        if policy.is_recurrent or self.comm.size > 1:
            raise BadInputError("PPO takes a policy without memory, and trains in one process")
        return config


def main() -> None:
    run = Path(tempfile.mkdtemp()) / "ppo"
    PPO(env="CartPole-v1", seed=0).train(run, steps=60_000)  # `PPO.resume(run)` goes on with it
    score = summarize(play_episodes(rlab.load_policy(run), envs.factory("CartPole-v1"), episodes=50, seed=1))
    print(f"mean return {score['mean_return']:.0f} of 500 over 50 episodes")


if __name__ == "__main__":
    main()

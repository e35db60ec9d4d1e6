"""The errors that `python tests/mutants` plants: where, what stands there, what is put in its place, who must notice.

An old text must occur exactly once in its file. Whoever changes a line that stands here changes it here too.
"""

from typing import NamedTuple


class Planted(NamedTuple):
    """One error."""

    name: str  # what is wrong
    file: str
    old: str
    new: str
    tests: tuple[str, ...]  # for pytest
    reason: str = ""  # why it may survive, if it may


def _of(file: str, *tests: str) -> "_Into":
    return _Into(file, tests)


class _Into(NamedTuple):
    """Where errors are planted, and who must notice."""

    file: str
    tests: tuple[str, ...]

    def __call__(self, name: str, old: str, new: str, *tests: str, reason: str = "") -> Planted:
        named = tuple(
            test if test.startswith("tests/") else f"{self.tests[0].split('::')[0]}::{test}" for test in tests
        )
        return Planted(f"{self.file}: {name}", self.file, old, new, named or self.tests, reason)


_RETURNS = _of("rlab/ops/returns.py", "tests/test_returns.py")
_LOSSES = _of("rlab/ops/losses.py", "tests/test_laws.py::test_a3cs_loss_is_that_of_algorithm_s3")
_RMSPROP = _of("rlab/ops/optimizers.py", "tests/test_optimizers.py")
_ADAM = _of("rlab/ops/adam.py", "tests/test_optimizers.py")
_DISTRIBUTIONS = _of("rlab/ops/distributions.py", "tests/test_distributions.py")
_REGION = _of("rlab/ops/trust_region.py", "tests/test_trust_region.py")
_EVOLUTION = _of("rlab/ops/evolution.py", "tests/test_evolution.py")
_MOMENTS = _of("rlab/ops/moments.py", "tests/test_moments.py")
_BPTT = _of("rlab/ops/bptt.py", "tests/test_rpg.py")
_A3C = _of("agents/a3c.py", "tests/test_laws.py")
_RPG = _of("agents/rpg.py", "tests/test_laws.py")
_SNES = _of("agents/snes.py", "tests/test_laws.py")
_TRPO = _of("agents/trpo.py", "tests/test_laws.py")
_TRUST = _of("rlab/policies/trust.py", "tests/test_laws.py")
_ROLLOUT = _of("rlab/rollout.py", "tests/test_rollout.py")
_BASELINES = _of("rlab/policies/baselines.py", "tests/test_laws.py::test_recent_returns_count_more")
_FITTING = _of("rlab/policies/fitting.py", "tests/test_fitting.py")
_PAIR = _of("rlab/policies/pair.py", "tests/test_fitting.py")
_CRITIC = _of("rlab/policies/critic.py", "tests/test_fitting.py")
_STATISTICS = _of("rlab/policies/statistics.py", "tests/test_fitting.py")
_POLICY = _of("rlab/policies/policy.py", "tests/test_policies.py")
_POPULATIONS = _of("rlab/policies/populations.py", "tests/test_snes.py")
_VINE = _of("rlab/vine.py", "tests/test_vine.py")
_REWARDS = _of("rlab/rewards.py", "tests/test_rewards.py")
_NOVELTY = _of("rlab/novelty.py", "tests/test_rewards.py")
_IMITATION = _of("rlab/imitation.py", "tests/test_rewards.py")
_SCHEDULES = _of("rlab/schedules.py", "tests/test_schedules.py")
_SEEDING = _of("rlab/seeding.py", "tests/test_laws.py::test_who_plays_has_streams_of_their_own")
_SHARED = _of("rlab/parallel/shared.py", "tests/test_optimizers.py")
_COMM = _of("rlab/parallel/comm.py", "tests/test_mpi.py::test_ranks_gather_and_sum_the_same_bits")
_CHECKPOINTS = _of("rlab/runs/checkpoints.py", "tests/test_runs.py")
_MEMORY = _of("envs/memory.py", "tests/test_memory_envs.py")
_SEA = _of("envs/exploration.py", "tests/test_memory_envs.py::test_the_deep_sea_by_hand")
_CATCH = _of("envs/catch.py", "tests/test_memory_envs.py::test_catch_by_hand")
_ROWS = _of("envs/rows.py", "tests/test_memory_envs.py::test_many_copies_play_what_single_ones_play")
_WRAPPERS = _of("envs/wrappers.py", "tests/test_envs.py")

_S3 = "test_a3cs_loss_is_that_of_algorithm_s3"
_WORKERS = "test_workers_and_resumed_runs_play_other_episodes_and_the_entropys_weight_falls"
_FALL = "test_the_weights_fall_with_the_schedule_where_they_should"
_EARLIER = "test_rpg_weighs_by_returns_less_what_an_earlier_fit_expected"
_THIRD = "test_rpgs_advantages_are_a_third_of_the_returns_where_two_thirds_are_expected"
_EPISODIC = "test_rpgs_loss_is_that_of_the_paper"
_STEP = "test_a_step_of_mu_and_sigma_is_that_of_the_paper"
_SIMPLE = "test_the_simple_form_climbs_by_its_settings"
_FULL = "test_the_full_form_takes_the_papers_utilities_and_rates"
_PLAYED = "test_what_trpo_plays_is_what_the_equations_say"
_BEGUN = "test_a_resumed_trpo_that_begins_new_episodes_begins_others"
_FISHER = "test_fisher_products_see_every_state_in_time"
_COLUMNS = "test_subsampled_products_are_of_the_chosen_columns"

PLANTED = (
    # The mathematics.
    _RETURNS("no bootstrap at a boundary", "_at_ends(boundaries) * next_values", "next_values * 0.0"),
    _RETURNS(
        "λ alone discounts the errors",
        "_discounted_sums(deltas, discounts * lam, boundaries)",
        "_discounted_sums(deltas, lam + 0.0 * discounts, boundaries)",
    ),
    _RETURNS("returns cross a boundary", "factors = discounts * (1.0 - boundaries)", "factors = discounts"),
    _RETURNS(
        "the error forgets the reward's sign",
        "rewards + discounts * next_values - values",
        "discounts * next_values - rewards - values",
    ),
    _RETURNS(
        "episodes' returns are not discounted",
        "rewards[t] + np.float32(discount) * following",
        "rewards[t] + following",
        f"tests/test_laws.py::{_EARLIER}",
        "tests/test_laws.py::test_discounted_returns_by_hand",
    ),
    _LOSSES(
        "value loss dropped",
        "policy + value_weight * value - entropy_weight * entropy",
        "policy - entropy_weight * entropy",
    ),
    _LOSSES("sign of the entropy", "- entropy_weight * entropy", "+ entropy_weight * entropy"),
    _LOSSES("sign of the policy's gradient", "policy = -tf.reduce_mean(", "policy = tf.reduce_mean("),
    _LOSSES(
        "the values are pulled to the advantages",
        "tf.stop_gradient(returns) - values",
        "tf.stop_gradient(advantages) - values",
    ),
    _LOSSES(
        "advantages are differentiated",
        "* tf.stop_gradient(advantages)",
        "* advantages",
        "test_the_loss_is_differentiated_by_the_policy_alone",
    ),
    _LOSSES(
        "returns are differentiated",
        "tf.square(tf.stop_gradient(returns) - values)",
        "tf.square(returns - values)",
        "test_the_loss_is_differentiated_by_the_policy_alone",
    ),
    _RMSPROP("ε outside the root", "/ np.sqrt(square + epsilon)", "/ (np.sqrt(square) + epsilon)"),
    _RMSPROP("the mean square is a sum", "square += (1.0 - decay) * np.square(delta)", "square += np.square(delta)"),
    _ADAM("no correction of the mean", "corrected_mean = mean / (1.0 - beta_1**count)", "corrected_mean = mean"),
    _ADAM("the second moment decays as the first", "square = beta_2 * state.square", "square = beta_1 * state.square"),
    _DISTRIBUTIONS(
        "KL of the other way round",
        "tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1)",
        "tf.reduce_sum(tf.exp(log_q) * (log_q - log_p), axis=-1)",
    ),
    _DISTRIBUTIONS("entropy of a Gaussian by another constant", "0.5 * (_LOG_2PI + 1.0)", "0.5 * _LOG_2PI"),
    _DISTRIBUTIONS("Fisher information of ln σ is 1", "2.0 * tangent.log_std", "tangent.log_std"),
    _DISTRIBUTIONS(
        "noise by the variance",
        "self.mean + tf.exp(self.log_std) * noise",
        "self.mean + tf.exp(2.0 * self.log_std) * noise",
    ),
    _DISTRIBUTIONS(
        "the Gumbel trick without its second logarithm",
        "self.logits - tf.math.log(-tf.math.log(u))",
        "self.logits + tf.math.log(u)",
    ),
    _DISTRIBUTIONS(
        "the Fisher product does not project",
        "tangent.logits - tf.reduce_sum(p * tangent.logits, -1, keepdims=True)",
        "tangent.logits",
    ),
    _DISTRIBUTIONS(
        "one stream for all choices",
        "part.sample(seeds[i]) for",
        "part.sample(seeds[0]) for",
        "tests/test_laws.py::test_several_choices_are_drawn_apart",
    ),
    _REGION("conjugate directions are gradients", "r + following / rr * p", "r"),
    _REGION("a step of half the region", "tf.sqrt(2.0 * max_kl", "tf.sqrt(max_kl"),
    _REGION("the line search trusts the step", "(surrogate > before) & (kl <= max_kl)", "(surrogate > before)"),
    _REGION("the line search takes what is worse", "(surrogate > before) & (kl <= max_kl)", "(kl <= max_kl)"),
    _REGION("the Fisher information is a sum", "part / count for part", "part for part"),
    _REGION("damping is predicted divergence", "undamped = curvature - damping", "undamped = curvature + damping"),
    _REGION(
        "what is rejected is kept", "tf.where(accepted, params + fraction * step, params)", "params + fraction * step"
    ),
    _EVOLUTION(
        "σ's exponent without ½",
        "tf.exp(0.5 * sigma_rate * gradient.log_sigma)",
        "tf.exp(sigma_rate * gradient.log_sigma)",
        f"tests/test_laws.py::{_STEP}",
    ),
    _EVOLUTION(
        "η_σ of xNES",
        "(3.0 + np.log(size)) / (5.0 * np.sqrt(size))",
        "3.0 * (3.0 + np.log(size)) / (5.0 * size * np.sqrt(size))",
        "tests/test_laws.py::test_the_rate_of_sigma_is_that_of_snes",
    ),
    _EVOLUTION(
        "sign of the weight decay",
        "- weight_decay * search.mean",
        "+ weight_decay * search.mean",
        "tests/test_laws.py::test_the_simple_slope_climbs_and_decays",
    ),
    _EVOLUTION(
        "the slope forgets σ",
        "gradient.mean / (population * sigma)",
        "gradient.mean / population",
        "tests/test_laws.py::test_the_simple_slope_climbs_and_decays",
    ),
    _EVOLUTION(
        "the mean does not move by σ",
        "search.mean + mean_rate * search.sigma * gradient.mean",
        "search.mean + mean_rate * gradient.mean",
        f"tests/test_laws.py::{_STEP}",
    ),
    _EVOLUTION(
        "NaN is the best",
        "if np.isnan(fitness).any():",
        "if False:",
        "tests/test_laws.py::test_nothing_that_is_not_a_number_has_a_rank",
    ),
    _EVOLUTION("utilities are not centred", "raw / raw.sum() - 1.0 / count", "raw / raw.sum()"),
    _EVOLUTION(
        "the gradient of ln σ without its −1",
        "tf.square(made) - 1.0",
        "tf.square(made)",
        "test_the_gradient_is_the_sum_over_all_members",
    ),
    _EVOLUTION(
        "mirrored members are the same",
        "sign = 1.0 - 2.0 * tf.cast(members % 2, tf.float32)",
        "sign = 1.0 + 0.0 * tf.cast(members % 2, tf.float32)",
        "test_mirrored_members_cancel_and_share_their_noise",
    ),
    _EVOLUTION(
        "each generation has the same noise",
        "threefry((_bits(seed), _bits(generation))",
        "threefry((_bits(seed), _bits(0 * generation))",
        "test_noise_is_standard_normal_and_its_streams_are_apart",
    ),
    _MOMENTS(
        "merged without the shift of the means", "np.square(shift) * first.rows * share", "0.0 * first.rows * share"
    ),
    _MOMENTS("the later part alone", "first.mean + shift * share", "first.mean + shift"),
    _BPTT(
        "no gradient goes back past a chunk",
        "total += tf.reduce_sum(part * upstream)",
        "total += 0.0 * tf.reduce_sum(part * upstream)",
        "test_the_estimator_is_the_gradient_of_the_exact_return",
    ),
    _BPTT(
        "a truncation cuts nothing",
        "if truncation and (number + 1) % truncation == 0:",
        "if False:",
        "test_truncation_lets_no_gradient_pass",
    ),
    # A3C.
    _A3C(
        "one seed for all workers", '"worker", number, common.first_step)', '"worker", 0, common.first_step)', _WORKERS
    ),
    _A3C("a resumed run with the same seeds", '"worker", number, common.first_step)', '"worker", number)', _WORKERS),
    _A3C(
        "β does not fall",
        "config.entropy_weight * (left if config.decay_entropy_weight else 1.0)",
        "config.entropy_weight",
        _FALL,
    ),
    _A3C(
        "β falls where it should not",
        "config.entropy_weight * (left if config.decay_entropy_weight else 1.0)",
        "config.entropy_weight * left",
        _FALL,
    ),
    _A3C(
        "the gradient sees another β",
        "tf.constant(entropy_weight, tf.float32))",
        "tf.constant(config.entropy_weight, tf.float32))",
        _WORKERS,
    ),
    _A3C(
        "the weights of value and entropy are swapped",
        "config.value_weight,\n        entropy_weight,",
        "entropy_weight,\n        config.value_weight,",
        _S3,
    ),
    _A3C(
        "the values learn normalized returns",
        "    returns = advantages + trajectory.values\n    if config.normalize_advantages:",
        "    returns = trajectory.values\n    if config.normalize_advantages:",
        _S3,
    ),
    _A3C(
        "advantages are scaled and not centred",
        "(advantages - tf.reduce_mean(advantages)) / (deviation",
        "advantages / (deviation",
        _S3,
    ),
    _A3C(
        "λ is forgotten",
        "trajectory.next_values,\n        config.gae_lambda,",
        "trajectory.next_values,\n        1.0,",
        _S3,
    ),
    _A3C(
        "the gradient is not bounded",
        "derivative *= tf.minimum(1.0, config",
        "derivative *= tf.maximum(1.0, config",
        "tests/test_a3c.py::test_the_gradient_is_bounded",
    ),
    # RPG.
    _RPG(
        "no baseline", "advantages = (returns - expected) * batch.valid", "advantages = returns * batch.valid", _THIRD
    ),
    _RPG(
        "baseline fitted before it is used",
        "expected = self.baseline.predict(batch)",
        "self.baseline.fit(batch, returns, comm)\n        expected = self.baseline.predict(batch)",
        _EARLIER,
    ),
    _RPG(
        "sign of the entropy",
        "return loss - weight[0] * weight[1] * entropy",
        "return loss + weight[0] * weight[1] * entropy",
        _EPISODIC,
    ),
    _RPG(
        "padding has advantages",
        "advantages = (returns - expected) * batch.valid",
        "advantages = returns - expected",
        _EARLIER,
    ),
    _RPG(
        "padding has entropy",
        "tf.reduce_sum(chunk.valid * output.distribution.entropy())",
        "tf.reduce_sum(output.distribution.entropy())",
        _EPISODIC,
    ),
    _RPG(
        "sign of the policy's gradient",
        "loss = -tf.reduce_sum(chunk.advantages * log_prob)",
        "loss = tf.reduce_sum(chunk.advantages * log_prob)",
        _EPISODIC,
    ),
    _RPG(
        "β does not fall",
        "config.entropy_weight * (left if config.decay_entropy_weight else 1.0)",
        "config.entropy_weight",
        _FALL,
        _EARLIER,
    ),
    _RPG(
        "a mean over steps and not over episodes",
        "tf.constant([1.0 / config.episodes_per_batch, entropy_weight]",
        "tf.constant([1.0 / steps, entropy_weight]",
        _EARLIER,
    ),
    _RPG(
        "the gradient is not bounded",
        "min(1.0, bound / (norm + 1e-8))",
        "1.0",
        "test_a_gradient_is_bounded_and_keeps_its_direction",
    ),
    _RPG("advantages by their mean square", "np.float32(np.sqrt(square) + 1e-8)", "np.float32(square + 1e-8)", _THIRD),
    _RPG(
        "the discount is forgotten",
        "discounted_returns(batch.rewards, config.discount)",
        "discounted_returns(batch.rewards, 1.0)",
        _EARLIER,
    ),
    _RPG(
        "every batch is the first",
        'stream = (self.seed, "batch", self.batches)',
        'stream = (self.seed, "batch", 0)',
        "test_every_batch_of_rpg_is_another",
    ),
    # SNES.
    _SNES(
        "σ's rate counts what is not searched",
        "default_sigma_rate(int(sought.sum()))",
        "default_sigma_rate(int(sought.size))",
        _FULL,
    ),
    _SNES(
        "the full form keeps centred ranks",
        '"nes" if full else "centered-ranks"',
        '"centered-ranks"',
        "test_what_snes_leaves_open_is_made_up_by_its_form",
        _FULL,
    ),
    _SNES(
        "every generation is the first",
        'config, stream = self.config, (self.seed, "generation", self.generation)',
        'config, stream = self.config, (self.seed, "generation", 0)',
        _SIMPLE,
    ),
    _SNES(
        "all groups play the same episodes",
        'derive(*stream, "environments") + first * config.episodes',
        'derive(*stream, "environments")',
        _SIMPLE,
    ),
    _SNES("plain steps go down", "search.mean + rate * slope", "search.mean - rate * slope", _SIMPLE),
    _SNES(
        "Adam goes down",
        "ops.adam.adam(search.mean, state, -slope, rate)",
        "ops.adam.adam(search.mean, state, slope, rate)",
        "test_adam_climbs_too",
    ),
    _SNES("the step does not fall", "left * config.learning_rate", "config.learning_rate", _SIMPLE),
    _SNES("weight decay is not passed on", "config.sigma, config.weight_decay)", "config.sigma)", _SIMPLE),
    # TRPO.
    _TRPO(
        "advantages not centred",
        "(values - float(whole.mean[0])) / (float",
        "values / (float",
        "test_advantages_are_standardized_over_all_ranks",
        _PLAYED,
    ),
    _TRPO(
        "an inexact resume replays the same episodes",
        "if checkpoint and self.exact else self.steps",
        "if checkpoint else self.steps",
        _BEGUN,
    ),
    _TRPO("the seeds forget where a run begins", '"episodes", self._begun)', '"episodes")', _BEGUN),
    _TRPO("the critic learns advantages", "returns = advantages + values\n", "returns = advantages\n", _PLAYED),
    _TRPO("λ is forgotten", "values, following, self.config.gae_lambda)", "values, following, 1.0)", _PLAYED),
    _TRPO(
        "branches are not compared with one another",
        "branches.values - branches.values.mean(axis=0)",
        "branches.values",
        "tests/test_rewards.py::test_rewards_learned_in_a_branch_are_forgotten_in_the_next",
    ),
    _TRPO(
        "the model of rewards is not put back",
        "            self._advantages,\n            self._learned,\n",
        "            self._advantages,\n",
        "tests/test_rewards.py::test_rewards_learned_in_a_branch_are_forgotten_in_the_next",
    ),
    _TRUST(
        "Fisher products see the same states in every batch",
        'derive(seed, "fisher", turn)',
        'derive(seed, "fisher", 0)',
        _COLUMNS,
    ),
    _TRUST(
        "Fisher products see the first steps",
        "np.argsort(keys, axis=1)[:, :",
        "np.argsort(0.0 * keys, axis=1)[:, :",
        _FISHER,
    ),
    _TRUST("the same environments in every batch", "(turn + number * np.arange", "(number * np.arange", _FISHER),
    _TRUST(
        "the surrogate forgets who played",
        "tf.exp(log_prob - old) * batch.advantages",
        "tf.exp(log_prob) * batch.advantages",
        "tests/test_trpo.py::test_the_divergence_is_that_of_the_policies_before_and_after",
    ),
    _TRUST(
        "weights of tried actions are ratios",
        "log_prob - batch.branches.sampled * old",
        "log_prob - old",
        "tests/test_vine.py::test_the_surrogate_is_that_of_the_paper",
    ),
    _TRUST(
        "the entropy has no weight in the search",
        "value += region.entropy_weight * tf.reduce_mean(new.entropy())",
        "value += 0.0",
        "tests/test_trpo.py::test_a_weight_on_entropy_raises_it",
    ),
    # Play.
    _ROLLOUT("a time limit is an end", "self._discount * (1.0 - terminated)", "self._discount * (1.0 - ended)"),
    _ROLLOUT(
        "memory is not cleared",
        "ended.astype(np.float32)\n            discounts",
        "0.0 * ended.astype(np.float32)\n            discounts",
        "test_values_are_those_of_one_forward_pass_over_the_rollout",
        "test_flags_of_a_time_limit",
    ),
    _ROLLOUT(
        "what terminated is worth something",
        "self._bootstrap(params, ended, info) * (1.0 - terminated)",
        "self._bootstrap(params, ended, info)",
        "test_flags_of_a_termination",
    ),
    _ROLLOUT(
        "the bootstrap sees the next episode",
        'observations = np.where(rows, info["final_obs"], observations)',
        "observations = observations",
        "test_the_bootstrap_is_the_value_of_the_observation_before_the_reset",
    ),
    _ROLLOUT(
        "rewards after the end count",
        "np.where(alive, reward, 0.0)",
        "np.where(True, reward, 0.0)",
        "tests/test_laws.py::test_a_batch_holds_first_episodes_alone",
    ),
    _ROLLOUT(
        "fitness is the true return",
        'info.get("rewarded", info["episode"]["r"])[ending]',
        'info["episode"]["r"][ending]',
        "tests/test_laws.py::test_fitness_is_of_learned_rewards",
    ),
    # Baselines, critics, policies.
    _BASELINES("all returns count alike", "_DECAY * self._sums + (1.0 - _DECAY) * sums", "self._sums + sums"),
    _BASELINES(
        "padding counts", "counted = returns[valid != 0.0].astype(np.float64)", "counted = returns.astype(np.float64)"
    ),
    _BASELINES(
        "the features' time is not scaled",
        "[..., None] / 100.0",
        "[..., None]",
        "tests/test_baselines.py::test_features_are_those_of_rllab",
    ),
    _PAIR(
        "values in the critic's own scale",
        "parts.scale[0] + parts.scale[1] * judged.values",
        "judged.values",
        "test_what_acts_knows_returns_in_their_own_scale",
    ),
    _FITTING(
        "targets are not standardized",
        "targets = (returns - mean) / deviation",
        "targets = returns - mean",
        "test_a_critic_learns_standardized_returns",
    ),
    _FITTING(
        "the critic climbs",
        "tf.reduce_mean(tf.square(targets - values))",
        "-tf.reduce_mean(tf.square(targets - values))",
        "test_a_critic_learns_standardized_returns",
    ),
    _FITTING(
        "the same minibatches in every fit",
        "default_rng([self._seed, self._fits])",
        "default_rng([self._seed, 0])",
        "test_a_critic_learns_standardized_returns",
    ),
    _FITTING(
        "explained variance of another sign",
        "both.squares[0] / max(both.squares[1], 1e-12)",
        "both.squares[1] / max(both.squares[0], 1e-12)",
        "test_a_critic_learns_standardized_returns",
    ),
    _CRITIC(
        "the baseline speaks in its own scale",
        "self._moments.mean + self._moments.deviation * np.concatenate(found)",
        "np.concatenate(found)",
        "test_a_recurrent_baseline_learns_and_speaks_of_returns",
    ),
    _CRITIC(
        "the baseline flees from returns",
        "chunk.weights * tf.square(chunk.targets - output.values)",
        "-chunk.weights * tf.square(chunk.targets - output.values)",
        "test_a_recurrent_baseline_learns_and_speaks_of_returns",
    ),
    _STATISTICS(
        "only the last batch is known",
        "functools.reduce(moments.merge, seen, self._seen)",
        "functools.reduce(moments.merge, seen)",
        "test_statistics_are_of_all_that_was_seen",
    ),
    _POLICY(
        "previous actions outlive their episode",
        "tf.where(resets[..., None] != 0.0, 0.0, previous)",
        "previous",
        "tests/test_laws.py::test_previous_actions_end_with_their_episode",
    ),
    _POLICY(
        "actions are told a step late",
        "tf.concat([previous, told[:-1]], 0)",
        "tf.concat([previous, previous, told[:-2]], 0)[: len(told)]",
        "tests/test_rpg.py::test_acting_step_by_step_is_the_unrolled_policy",
    ),
    _POPULATIONS(
        "the critic is searched too",
        '("value/", "log_std") if deterministic else ("value/",)',
        '("log_std",) if deterministic else ()',
        "test_only_what_decides_is_searched",
    ),
    # Vine, learned rewards, schedules, seeds.
    _VINE(
        "branches are not undone",
        "            collector.load(here)\n",
        "",
        "test_branches_leave_the_trajectory_as_it_was",
    ),
    _VINE(
        "learned rewards are not put back",
        "learned.restore(known)",
        "pass",
        "tests/test_rewards.py::test_rewards_learned_in_a_branch_are_forgotten_in_the_next",
    ),
    _VINE(
        "the critic judges what follows twice",
        "branch.next_values, 1.0).numpy() + branch.values)[0]",
        "branch.next_values, 1.0).numpy())[0]",
        "test_a_branch_is_worth_what_a_slow_loop_finds",
    ),
    _REWARDS(
        "steps after the end are learned of",
        "self._counts &= ~ended",
        "pass",
        "test_copies_that_play_on_count_their_first_episode_only",
    ),
    _REWARDS(
        "a model hides behind a partial",
        "factory = factory.func if isinstance(factory, functools.partial) else",
        "factory =",
        "test_a_model_is_found_however_its_factory_is_wrapped",
    ),
    _REWARDS(
        "an episode's learned rewards go on",
        "self._sums[ended] = 0.0",
        "pass",
        "test_rewards_are_the_models_and_scores_the_environments_own",
    ),
    _NOVELTY(
        "pseudo-counts without the root of n",
        "scale * tf.math.rsqrt(learned)",
        "scale / learned",
        "test_pseudo_counts_are_those_of_the_paper",
    ),
    _NOVELTY(
        "rows that do not count are learned of",
        "tf.reduce_sum(known * counts)",
        "tf.reduce_sum(known)",
        "test_rows_that_do_not_count_are_not_learned_of",
    ),
    _IMITATION(
        "the discriminator's classes are swapped",
        "tf.nn.softplus(-real)) + tf.reduce_mean(tf.nn.softplus(false)",
        "tf.nn.softplus(real)) + tf.reduce_mean(tf.nn.softplus(-false)",
        "test_the_discriminator_rewards_what_the_demonstrator_does",
    ),
    _IMITATION(
        "the reward is ln(1 − σ)",
        "given = np.logaddexp(0.0, odds)",
        "given = np.logaddexp(0.0, -odds)",
        "test_the_discriminator_rewards_what_the_demonstrator_does",
    ),
    _IMITATION(
        "the true reward is shown", "replaces=True", "replaces=False", "test_who_imitates_never_sees_the_rewards"
    ),
    _SCHEDULES("nothing falls", "max(1.0 - (steps - start) / (end - start), 0.0)", "1.0"),
    _SCHEDULES("fewer episodes decide", "full = len(self._recent) == _EPISODES", "full = bool(self._recent)"),
    _SCHEDULES(
        "what cooled down stays so", "self._line = self._slow\n            self._over", "pass\n            self._over"
    ),
    _SEEDING(
        "environments and actions share a stream",
        'derive(seed, *path, "actions")',
        'derive(seed, *path, "environments")',
    ),
    _SEEDING("seeds of 32 bits", "seed >> 32 & 0xFFFFFFFF", "0"),
    # Checkpoints and ranks.
    _CHECKPOINTS("too many are kept", "[:-keep]", "[: -keep - 1]", "test_the_newest_few_are_kept"),
    _CHECKPOINTS(
        "a checksum is not compared",
        "    if not whole:\n",
        "    if False:\n",
        "test_no_cut_and_no_flipped_byte_goes_unnoticed",
    ),
    _CHECKPOINTS(
        "a part takes its namesakes too",
        'if name.startswith(f"{prefix}/")',
        "if name.startswith(prefix[:1])",
        "tests/test_laws.py::test_a_part_of_a_checkpoint_is_that_part",
    ),
    _SHARED(
        "staleness counts one's own update",
        "staleness = self.updates - pulled_at\n            self.updates += 1",
        "self.updates += 1\n            staleness = self.updates - pulled_at",
        "test_staleness_counts_the_updates_of_others",
    ),
    _SHARED(
        "a snapshot moves",
        "return self.vector.copy(), updates",
        "return self.vector, updates",
        "test_a_snapshot_does_not_move",
    ),
    _SHARED("steps are not counted", "self.steps += steps\n", "pass\n", "test_threads_lose_no_count"),
    _COMM("the last rank counts twice", "total = parts[0]\n", "total = parts[-1]\n"),
    _COMM("ranks that differ pass", "if len(set(digests)) > 1:", "if False:", "test_ranks_that_differ_are_found_out"),
    # Environments.
    _MEMORY(
        "the wrong turn is right",
        "np.where(side == 0.0, _NORTH, _SOUTH)",
        "np.where(side == 1.0, _NORTH, _SOUTH)",
        "test_the_t_maze_by_hand",
    ),
    _MEMORY(
        "n steps back and one",
        "np.maximum(time - self.n, 0)",
        "np.maximum(time - self.n - 1, 0)",
        "test_n_back_by_hand",
    ),
    _MEMORY(
        "the question comes a step early",
        "asked = time == self.delay + 1",
        "asked = time == self.delay",
        "test_delayed_recall_by_hand",
    ),
    _SEA("going right is free", "- np.where(right, 0.01 / self.size, 0.0)", "- 0.0"),
    _CATCH("a ball that falls costs nothing", "np.where(caught, 1.0, -1.0)", "np.where(caught, 1.0, 0.0)"),
    _ROWS("all rows are the first", "None if seed is None else seed + row", "seed"),
    _WRAPPERS(
        "the last reward of one episode begins the next",
        "_beside(observations, np.where(ended, 0.0, rewards))",
        "_beside(observations, rewards)",
        "test_the_last_reward_may_be_seen",
    ),
)

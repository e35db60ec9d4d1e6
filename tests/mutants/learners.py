"""Errors in the learners: A3C, RPG and TRPO."""

from planting import into

_A3C = into("agents/a3c.py", "tests/test_laws.py")
_RPG = into("agents/rpg.py", "tests/test_laws.py")
_TRPO = into("agents/trpo.py", "tests/test_laws_of_steps.py")
_SETTINGS = into("agents/configs.py", "tests/test_laws.py")
_SUBSAMPLING = into("rlab/policies/batches.py", "tests/test_laws_of_steps.py")
_S3 = "test_a3cs_loss_is_that_of_algorithm_s3"
_WORKERS = "test_workers_and_resumed_runs_play_other_episodes_and_the_entropys_weight_falls"
_FALL = "test_the_weights_fall_with_the_schedule_where_they_should"
_EARLIER = "test_rpg_weighs_by_returns_less_what_an_earlier_fit_expected"
_THIRD = "test_rpgs_advantages_are_a_third_of_the_returns_where_two_thirds_are_expected"
_EPISODIC = "test_rpgs_loss_is_that_of_the_paper"
_PLAYED = "test_a_batch_of_trpo_has_the_returns_and_advantages_of_the_equations"
_BEGUN = "test_a_resumed_trpo_that_begins_new_episodes_begins_others"
_FISHER = "test_fisher_products_see_every_state_in_time"
_OTHERS = "test_each_batch_has_other_states_for_fisher_products"

PLANTED = (
    # A3C.
    _A3C("one seed for all workers", '"worker", number, first_step)', '"worker", 0, first_step)', _WORKERS),
    _A3C("a resumed run with the same seeds", '"worker", number, first_step)', '"worker", number)', _WORKERS),
    _SETTINGS(
        "β does not fall",
        "config.entropy_weight * (left if config.decay_entropy_weight else 1.0)",
        "config.entropy_weight",
        _FALL,
        _EARLIER,
    ),
    _SETTINGS(
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
        "a policy's last actions are not seen",
        "trajectory.resets, trajectory.actions\n",
        "trajectory.resets\n",
        "test_a3c_learns_a_policy_that_sees_its_last_action",
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
        'stream = (self.setup.seed, "batch", self.batches)',
        'stream = (self.setup.seed, "batch", 0)',
        "test_every_batch_of_rpg_is_another",
    ),
    # TRPO.
    into("rlab/policies/normalization.py", "tests/test_laws_of_steps.py")(
        "advantages not centred",
        "(values - float(whole.mean[0])) / (float",
        "values / (float",
        "test_advantages_are_standardized_over_all_ranks",
        _PLAYED,
    ),
    _TRPO(
        "an inexact resume replays the same episodes",
        "        self._begun = self.steps\n",
        "",
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
        "            self._advantages,\n            self.setup.rewards,\n",
        "            self._advantages,\n",
        "tests/test_rewards.py::test_rewards_learned_in_a_branch_are_forgotten_in_the_next",
    ),
    _TRPO(
        "Fisher products see the same states in every batch",
        '"fisher", self.batches)',
        '"fisher", 0)',
        _OTHERS,
    ),
    _SUBSAMPLING(
        "Fisher products see the first steps",
        "np.argsort(keys, axis=1)[:, :",
        "np.argsort(0.0 * keys, axis=1)[:, :",
        _FISHER,
    ),
    _SUBSAMPLING("the same environments in every batch", "(turn + number * np.arange", "(number * np.arange", _FISHER),
    _TRPO(
        "the surrogate forgets who played",
        "tf.exp(log_prob - old) * batch.advantages",
        "tf.exp(log_prob) * batch.advantages",
        "tests/test_trpo.py::test_the_divergence_is_that_of_the_policies_before_and_after",
    ),
    _TRPO(
        "weights of tried actions are ratios",
        "log_prob - batch.branches.sampled * old",
        "log_prob - old",
        "tests/test_vine.py::test_the_surrogate_is_that_of_the_paper",
    ),
    _TRPO(
        "the entropy has no weight in the search",
        "value += region.entropy_weight * tf.reduce_mean(new.entropy())",
        "value += 0.0",
        "tests/test_trpo.py::test_a_weight_on_entropy_raises_it",
    ),
)

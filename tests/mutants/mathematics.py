"""Errors in the mathematics and in what steps by it: `rlab/ops` and SNES."""

from planting import into

_RETURNS = into("rlab/ops/returns.py", "tests/test_returns.py")
_LOSSES = into("rlab/ops/losses.py", "tests/test_laws.py::test_a3cs_loss_is_that_of_algorithm_s3")
_RMSPROP = into("rlab/ops/optimizers.py", "tests/test_optimizers.py")
_ADAM = into("rlab/ops/adam.py", "tests/test_optimizers.py")
_DISTRIBUTIONS = into("rlab/ops/distributions.py", "tests/test_distributions.py")
_REGION = into("rlab/ops/trust_region.py", "tests/test_trust_region.py")
_EVOLUTION = into("rlab/ops/evolution.py", "tests/test_evolution.py")
_MOMENTS = into("rlab/ops/moments.py", "tests/test_moments.py")
_BPTT = into("rlab/ops/bptt.py", "tests/test_rpg.py")
_SNES = into("agents/snes.py", "tests/test_laws_of_steps.py")
_SETTINGS = into("agents/configs.py", "tests/test_laws_of_steps.py")
_EARLIER = "test_rpg_weighs_by_returns_less_what_an_earlier_fit_expected"
_STEP = "test_a_step_of_mu_and_sigma_is_that_of_the_paper"
_SIMPLE = "test_the_simple_form_climbs_by_its_settings"
_FULL = "test_the_full_form_takes_the_papers_utilities_and_rates"

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
        "tf.exp(0.5 * sigma_rate * gradient.log_variance)",
        "tf.exp(sigma_rate * gradient.log_variance)",
        f"tests/test_laws_of_steps.py::{_STEP}",
    ),
    _EVOLUTION(
        "η_σ of xNES",
        "(3.0 + np.log(size)) / (5.0 * np.sqrt(size))",
        "3.0 * (3.0 + np.log(size)) / (5.0 * size * np.sqrt(size))",
        "tests/test_laws_of_steps.py::test_the_rate_of_sigma_is_that_of_snes",
    ),
    _EVOLUTION(
        "sign of the weight decay",
        "- weight_decay * search.mean",
        "+ weight_decay * search.mean",
        "tests/test_laws_of_steps.py::test_the_simple_slope_climbs_and_decays",
    ),
    _EVOLUTION(
        "the slope forgets σ",
        "gradient.mean / (population * sigma)",
        "gradient.mean / population",
        "tests/test_laws_of_steps.py::test_the_simple_slope_climbs_and_decays",
    ),
    _EVOLUTION(
        "the mean does not move by σ",
        "search.mean + mean_rate * search.sigma * gradient.mean",
        "search.mean + mean_rate * gradient.mean",
        f"tests/test_laws_of_steps.py::{_STEP}",
    ),
    _EVOLUTION(
        "NaN is the best",
        "if np.isnan(fitness).any():",
        "if False:",
        "tests/test_laws_of_steps.py::test_nothing_that_is_not_a_number_has_a_rank",
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
    # SNES.
    _SNES(
        "σ's rate counts what is not searched",
        "default_sigma_rate(int(searched.sum()))",
        "default_sigma_rate(int(searched.size))",
        _FULL,
    ),
    _SETTINGS(
        "the full form keeps centred ranks",
        '"nes" if full else "centered-ranks"',
        '"centered-ranks"',
        "test_open_settings_of_snes_are_decided_by_its_form",
        _FULL,
    ),
    _SNES(
        "every generation is the first",
        'config, stream = self.config, (self.setup.seed, "generation", self.generation)',
        'config, stream = self.config, (self.setup.seed, "generation", 0)',
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
)

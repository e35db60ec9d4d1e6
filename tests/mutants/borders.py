"""Errors where others' environments, files and spaces come in."""

from planting import into

_ACTIONS = into("rlab/policies/actions.py", "tests/test_spaces.py")
_READING = into("rlab/policies/observations.py", "tests/test_spaces.py")
_CONTRACT = into("envs/contract.py", "tests/test_contract.py")
_COPIES = into("envs/copies.py", "tests/test_contract.py")
_FILES = into("rlab/files.py", "tests/test_hostile_runs.py")
_ARRAYS = into("rlab/arrays.py", "tests/test_hostile_runs.py")
_WEIGHTS = into("rlab/runs/weights.py", "tests/test_hostile_runs.py")
_LOADING = into("rlab/runs/policy_files.py", "tests/test_spaces.py")

PLANTED = (
    # Actions.
    _ACTIONS(
        "the way between the bounds is halved",
        "(low + high) + (high - low) * np.clip",
        "(low + high) + 0.5 * (high - low) * np.clip",
        "test_half_the_way_is_half_the_way",
    ),
    _ACTIONS(
        "numbers are scaled where a bound is infinite",
        "return np.where(bounded, mapped, actions)",
        "return mapped",
        "test_numbers_without_a_bound_are_the_environments_own",
    ),
    _ACTIONS(
        "integers are cut and not rounded",
        "rounded = np.rint(actions)",
        "rounded = np.floor(actions)",
        "test_half_the_way_is_half_the_way",
        "test_the_unit_interval_is_all_that_lies_between_the_bounds",
    ),
    _ACTIONS(
        "actions are scaled whatever the run says",
        "_scaled(actions, space) if scaled else actions",
        "_scaled(actions, space)",
        "test_version_0_1_cut_actions_off_and_nothing_else",
    ),
    # Observations.
    _READING(
        "small images are vectors",
        "SMALLEST_IMAGE = 7",
        "SMALLEST_IMAGE = 8",
        "test_images_are_known_by_their_shape_and_bounds",
    ),
    _READING(
        "the shorter sides are the picture",
        "first = max(range(len(size) - 1)",
        "first = min(range(len(size) - 1)",
        "test_images_are_known_by_their_shape_and_bounds",
    ),
    _LOADING(
        "version 0.1 scaled its actions",
        'data.get("scale_actions", False)',
        'data.get("scale_actions", True)',
        "test_a_run_of_0_1_says_nothing_and_keeps_its_rules",
        "tests/test_versions.py::test_its_policy_acts_as_it_did",
    ),
    # The contract of environments.
    _CONTRACT(
        "NaN is observed",
        "            return _is_finite(array)\n",
        "            return np.True_\n",
        "test_nan_is_named_wherever_it_comes",
    ),
    _CONTRACT(
        "NaN is rewarded",
        'self._refuse(array, right, "the reward", None)',
        "pass",
        "test_a_reward_that_is_not_finite_is_named",
    ),
    _CONTRACT(
        "numbers beyond float32 are finite",
        "np.abs(array) <= _LARGEST if array.dtype == np.float64 else np.isfinite(array)",
        "np.isfinite(array)",
        "test_numbers_that_are_not_of_the_space_are_named",
    ),
    _CONTRACT(
        "choices that a space has not are observed",
        "return are_known(array, self.env.single_observation_space) if self._counted else np.True_",
        "return np.True_",
        "test_numbers_that_are_not_of_the_space_are_named",
    ),
    _COPIES(
        "integers wrap around",
        "if bent and not",
        "if False and not",
        "test_numbers_that_are_not_of_the_space_are_named",
    ),
    _LOADING(
        "the integers of choices are forgotten",
        'dtype = np.dtype(data.get("dtype", np.int64))',
        "dtype = np.dtype(np.int64)",
        "test_spaces_and_what_is_unbounded_in_them_survive_json",
    ),
    _READING(
        "numbers below a discrete space are taken",
        "(numbers >= first) & (numbers <",
        "(numbers <",
        "test_observations_that_are_none_are_refused_in_a_line",
        "test_several_numbers_are_one_hot_each",
    ),
    _READING(
        "a discrete space's first number is taken for 0",
        "first = np.asarray(space.start)",
        "first = np.zeros_like(space.start)",
        "test_several_numbers_are_one_hot_each",
    ),
    _CONTRACT(
        "an end by time is a life's",
        "np.zeros_like(ended) if lost is None else ended & ~truncated & np.asarray(lost, bool)",
        "np.zeros_like(ended) if lost is None else ended & np.asarray(lost, bool)",
        "test_an_end_by_time_is_no_loss_of_a_life",
    ),
    _CONTRACT(
        "scores go on over episodes",
        "self.episode_returns[over], self.episode_lengths[over] = 0.0, 0",
        "self.episode_lengths[over] = 0",
        "test_every_way_to_reset_becomes_the_same_step",
    ),
    _CONTRACT(
        "all copies are reset with one",
        'options={"reset_mask": ended.copy()}',
        'options={"reset_mask": np.ones_like(ended)}',
        "test_every_way_to_reset_becomes_the_same_step",
    ),
    _CONTRACT(
        "the score is of clipped rewards",
        "self.episode_returns += rewards",
        "self.episode_returns += np.clip(rewards, -1.0, 1.0)",
        "tests/test_envs.py",
        "tests/test_contract.py::test_every_way_to_reset_becomes_the_same_step",
    ),
    _COPIES(
        "the last observation is overwritten",
        "            observation = copied(observation)\n",
        "",
        "test_the_last_observation_is_not_overwritten_by_the_reset",
    ),
    # Files.
    _FILES(
        "links are followed",
        '_NO_LINK = getattr(os, "O_NOFOLLOW", 0)',
        "_NO_LINK = 0",
        "test_temporary_names_are_not_known_beforehand",
        "test_a_file_is_read_only_where_it_is_one",
    ),
    _FILES(
        "temporary names are known",
        "{secrets.token_hex(8)}.tmp",
        "{0}.tmp",
        "test_temporary_names_are_not_known_beforehand",
    ),
    _FILES(
        "hard links are written through",
        "if os.fstat(file.fileno()).st_nlink > 1:",
        "if False:",
        "test_a_hard_link_is_not_appended_to",
    ),
    _ARRAYS(
        "weights are loaded whatever their digest",
        "if metadata.get(DIGEST) != digest(arrays, steps) or",
        "if False and",
        "test_no_flipped_bit_of_the_weights_goes_unnoticed",
    ),
    _ARRAYS(
        "a digest forgets the names",
        'found.update(f"{name} {array.dtype} {array.shape}".encode())',
        "pass",
        "test_a_digest_knows_names_shapes_and_kinds",
    ),
    _LOADING(
        "the architecture's digest is not looked at",
        "and written != digest(data):",
        "and False:",
        "tests/test_hostile_runs.py::test_the_architecture_has_a_digest_too",
    ),
    _WEIGHTS(
        "old weights are used beside a newer checkpoint",
        "weights.steps >= checkpoints.steps_of(newest)",
        "weights.steps >= 0",
        "test_weights_that_are_older_than_the_checkpoint_give_way_to_it",
    ),
)

"""Errors in what a run keeps and how it ends, and where a policy is used after training."""

from planting import into

_EVALUATION = into("rlab/sampling/evaluation.py", "tests/test_evaluation.py")
_LOOP = into("rlab/runs/loop.py", "tests/test_loop.py")
_LOCK = into("rlab/runs/lock.py", "tests/test_hostile_runs.py")
_METRICS = into("rlab/runs/metrics.py", "tests/test_runs.py")
_SIGNALS = into("rlab/runs/signals.py", "tests/test_signals.py")
_TRAINED = into("rlab/policies/inference.py", "tests/test_policies.py")
_GAMES = into("envs/games.py", "tests/test_envs.py")
_SAVING = into("envs/snapshots.py", "tests/test_saving.py")
_MAKING = into("envs/construction.py", "tests/test_memory_envs.py")
_IMAGES = into("rlab/datasets/images.py", "tests/test_images.py")
_CALLS = into("rlab/parallel/calls.py", "tests/test_signals.py")
_AGENT = into("agents/agent.py", "tests/test_rewards.py")
_FACTORIES = into("envs/factories.py", "tests/test_factories.py")
_STATE = into("rlab/state.py", "tests/test_state.py")
_CONSTRUCTION = into("agents/construction.py", "tests/test_tuning.py")
_FILMING = into("envs/filming.py", "tests/test_evaluation.py")

PLANTED = (
    _EVALUATION(
        "a film is not played as was trained",
        "    deterministic = as_trained(policy, deterministic)\n    patience",
        "    deterministic = bool(deterministic)\n    patience",
        "test_a_film_is_played_as_was_trained_and_each_episode_begins_with_an_empty_memory",
    ),
    _EVALUATION(
        "a film's episodes share their memory",
        "reset, steps = (terminated | truncated).astype(np.float32), steps + 1",
        "reset, steps = reset, steps + 1",
        "test_a_film_is_played_as_was_trained_and_each_episode_begins_with_an_empty_memory",
    ),
    _EVALUATION(
        "the limit is that of a play and not of an episode",
        "steps = np.where(ended, 0, steps + 1)",
        "steps = steps + 1",
        "test_an_episode_of_just_so_many_steps_is_played",
    ),
    _EVALUATION(
        "a film in seconds where milliseconds are meant",
        "1000.0 / fps",
        "1.0 / fps",
        "test_a_film_shows_the_last_picture_of_each_episode_and_then_the_first_of_the_next",
    ),
    _EVALUATION(
        "the deviation of a sample",
        "float(scores.std())",
        "float(scores.std(ddof=1)) if len(scores) > 1 else 0.0",
        "test_a_summary_has_the_moments_of_all_episodes",
    ),
    _EVALUATION(
        "the next episode's first picture as the last",
        "show(_enlarged(filmed.last_frame()))",
        "show(_enlarged(filmed.frame()))",
        "test_a_film_shows_the_last_picture_of_each_episode_and_then_the_first_of_the_next",
    ),
    _LOOP(
        "a signal after the last step stops the run",
        "    stop.signal = None  # it came when all was done",
        "    pass",
        "test_a_signal_when_all_steps_are_done_stops_nothing",
    ),
    _LOOP(
        "seconds begin anew in a resumed run",
        'self._before = writer.last.get("seconds", 0.0)',
        "self._before = 0.0",
        "tests/test_resuming.py::test_the_window_of_scores_goes_on_in_a_resumed_run",
    ),
    _LOOP(
        "episodes begin anew in a resumed run",
        'self._episodes = int(writer.last.get("episodes", 0))',
        "self._episodes = 0",
        "tests/test_resuming.py::test_the_window_of_scores_goes_on_in_a_resumed_run",
    ),
    _LOOP(
        "the score's window begins anew",
        "    if first_step:\n        recorder.remember(_recent_of(run))",
        "    pass",
        "tests/test_resuming.py::test_the_window_of_scores_goes_on_in_a_resumed_run",
    ),
    _LOOP(
        "environments are never closed",
        "        if close:\n            close()",
        "        pass",
        "test_ctrl_c_saves_closes_and_is_raised",
    ),
    _LOOP(
        "what learned rewards learned is not saved",
        "checkpoint = functools.partial(_with_state, checkpoint, contributors)",
        "pass",
        "tests/test_rewards.py",
    ),
    _LOCK(
        "the lock of another machine is free",
        "elif free and owner and owner.host != socket.gethostname():",
        "elif False:",
        "test_a_lock_of_another_machine_is_heeded_until_it_falls_silent",
    ),
    _LOCK(
        "a lock is never touched",
        "            os.utime(descriptor)",
        "            pass",
        "test_a_lock_is_touched_as_long_as_it_is_held",
    ),
    _LOCK(
        "a later process of the same number owns a lock",
        "started_at(owner.pid) != owner.started or ",
        "",
        "test_the_lock_file_is_the_lock_if_the_kernel_knows_none",
    ),
    _LOCK(
        "another's lock is deleted",
        "            if _identity(path) == key:\n                path.unlink()",
        "            path.unlink()",
        "test_a_lock_that_another_has_taken_over_stays",
    ),
    _METRICS(
        "a resumed run loses the row of its checkpoint",
        "int(row[0]) <= steps",
        "int(row[0]) < steps",
        "test_metrics_continue_from_the_checkpoint",
    ),
    _METRICS(
        "rows before a new column are short",
        'row + [""] * (len(self._columns) - len(row))',
        "row",
        "tests/test_runs.py",
        "tests/test_hostile_runs.py",
    ),
    _METRICS(
        "damaged metrics are dropped",
        "    if wrong:\n        aside, found = set_aside(path)",
        "    if False:\n        aside, found = set_aside(path)",
        "tests/test_hostile_runs.py",
    ),
    _SIGNALS(
        "a late repetition of SIGUSR1 kills",
        "signal.SIG_IGN if fatal else handler",
        "handler",
        "test_a_late_repetition_of_a_batch_job_does_not_kill",
    ),
    _SIGNALS(
        "a second signal is not heard",
        "return any(number in HEARD and number != REPEATABLE for number in self._inbox.recv(64))",
        "return False",
        "test_a_second_signal_ends_what_hangs_at_once",
    ),
    _SIGNALS(
        "nohup is overruled", "not (number == _HANGUP and handler is signal.SIG_IGN)", "True", "test_nohup_is_respected"
    ),
    _SIGNALS(
        "a noted signal never acts",
        "            signal.raise_signal(self._received)",
        "            pass",
        "test_ctrl_c_is_noted_and_acts_afterwards",
    ),
    _TRAINED(
        "a trained policy draws the same at each step",
        "self.count % _SEEDS",
        "0",
        "test_a_trained_policy_draws_anew_at_each_step_and_the_same_of_one_seed",
    ),
    _GAMES(
        "no old id means sticky actions",
        'sticky = "" if version == "4"',
        'sticky = "" if version == "0"',
        "test_the_ids_of_old_are_games",
    ),
    _GAMES(
        "each rank says what an old id means",
        "if found and convention and not launched_rank():",
        "if found and convention:",
        "test_one_rank_speaks_for_all",
    ),
    _SAVING(
        "a restored time limit begins anew",
        'limit._elapsed_steps = int(arrays["elapsed"])',
        "pass",
        "test_steps_after_a_restored_state_are_the_same",
    ),
    _SAVING(
        "a restored copy counts its steps anew",
        "        copy.steps = int(env.episode_lengths[i])",
        "        pass",
        "test_a_fault_after_a_restored_state_names_the_step_of_its_episode",
    ),
    _MAKING(
        "the later of two time limits is said", "return min((limit", "return max((limit", "test_limits_that_are_known"
    ),
    _MAKING(
        "rewards of games are never clipped",
        'for key in ("clip_rewards", "life_loss")',
        'for key in ("life_loss",)',
        "tests/test_envs.py",
    ),
    _IMAGES(
        "a file sorted by class is split as it stands",
        "x, y = x[order], y[order]",
        "x, y = x, y",
        "test_the_validation_images_of_a_file_sorted_by_class_are_of_all_classes",
    ),
    _IMAGES("digits are brighter than 1", "_digits(), 16.0", "_digits(), 15.0", "test_digits_need_no_network"),
    _CALLS(
        "many short calls are one long one",
        "if call is None or call is not self._call:",
        "if call is None:",
        "test_a_thread_in_another_call_than_before_is_not_held",
    ),
    _CALLS(
        "a recurrent model's step is an environment's",
        "if frame.f_code.co_name in _CALLS and",
        "if",
        "tests/test_signals.py",
        "tests/test_watch.py",
    ),
    _AGENT(
        "learned rewards begin anew",
        'self.reward_model.restore(subset(checkpoint.arrays, "rewards"))',
        "pass",
        "tests/test_rewards.py::test_a_resumed_run_has_the_same_parameters",
    ),
    _AGENT(
        "parameters that are not finite go on",
        "if not np.isfinite(made.learned).all():",
        "if False:",
        "tests/test_laws_of_steps.py::test_a_deviation_that_is_no_number_ends_a_generation",
    ),
    _AGENT(
        "an environment is not asked what it can",
        "sized.require_environment(self.env)",
        "pass",
        "tests/test_vine.py::test_an_environment_or_setting_without_a_vine_is_refused",
    ),
    _AGENT(
        "learned rewards go on after an episode",
        "self.rewards, first_episodes or single_episode)",
        "self.rewards, False)",
        "tests/test_rewards.py",
    ),
    _FACTORIES("a game's state cannot be saved", "described, is_atari(name))", "described, False)"),
    _FACTORIES("seeds are not passed on", '{"seed": seed} if "seed" in taken else {}', "{}"),
    _FACTORIES(
        "a partial's options are lost",
        "return _named(one, kept) if isinstance(one, str) else _of_one(one, kept)",
        "return _named(one, {}) if isinstance(one, str) else _of_one(one, kept)",
    ),
    _STATE("any shape fits", "return _leaf(fresh, like(", "return _leaf(fresh, (lambda a, n, p: a[n])("),
    _CONSTRUCTION(
        "a score that is given is not asked for",
        "self.target_score if target_score is None else target_score",
        "self.target_score",
        "test_the_length_of_a_training",
    ),
    _CONSTRUCTION(
        "an infinite score never ends a run's schedule",
        "None if target_score == math.inf else target_score",
        "target_score",
        "test_the_length_of_a_training",
    ),
    _FILMING(
        "a grey picture is none",
        "    if array.ndim == 2:\n        array = np.repeat(array[..., None], 3, axis=2)",
        "    pass",
        "test_pictures_of_other_kinds_are_pictures",
    ),
    _FILMING(
        "pictures of numbers to 1 are black",
        'if array.dtype == bool or (array.dtype.kind == "f" and array.max() <= 1.0)',
        "if array.dtype == bool",
        "test_pictures_of_other_kinds_are_pictures",
    ),
)

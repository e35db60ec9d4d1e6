"""Errors in play, policies, rewards, checkpoints, ranks and environments."""

from planting import into

_ROLLOUT = into("rlab/sampling/rollout.py", "tests/test_rollout.py")
_BASELINES = into("rlab/policies/baselines.py", "tests/test_laws.py::test_recent_returns_count_more")
_NORMALIZATION = into("rlab/policies/normalization.py", "tests/test_laws.py::test_recent_returns_count_more")
_FITTING = into("rlab/policies/critics.py", "tests/test_fitting.py")
_PAIR = into("rlab/policies/critics.py", "tests/test_fitting.py")
_CRITIC = into("rlab/policies/baselines.py", "tests/test_fitting.py")
_STATISTICS = into("rlab/policies/normalization.py", "tests/test_fitting.py")
_POLICY = into("rlab/policies/policy.py", "tests/test_policies.py")
_POPULATIONS = into("rlab/policies/populations.py", "tests/test_snes.py")
_VINE = into("rlab/sampling/vine.py", "tests/test_vine.py")
_REWARDS = into("rlab/rewards/models.py", "tests/test_rewards.py")
_NOVELTY = into("rlab/rewards/novelty.py", "tests/test_rewards.py")
_IMITATION = into("rlab/rewards/imitation.py", "tests/test_rewards.py")
_SCHEDULES = into("rlab/schedules.py", "tests/test_schedules.py")
_SEEDING = into("rlab/seeding.py", "tests/test_laws.py::test_every_worker_has_random_streams_of_its_own")
_BACKGROUND = into("rlab/sampling/rollout.py", "tests/test_a3c.py::test_a_game_is_seen_about_its_background")
_BACKGROUND_OF_A3C = into("agents/a3c.py", "tests/test_a3c.py::test_a_game_is_seen_about_its_background")
_PIXELS = into("rlab/policies/backbones.py", "tests/test_spaces.py")
_SHARED = into("rlab/parallel/shared.py", "tests/test_optimizers.py")
_LOCAL = into("rlab/parallel/local.py", "tests/test_local.py::test_all_ranks_find_the_same")
_REMOTE = into(
    "rlab/parallel/remote.py", "tests/test_local.py::test_processes_learn_together_and_count_the_steps_of_all"
)
_A3C_PROCESSES = into("agents/a3c.py", "tests/test_local.py::test_a_fault_in_any_process_is_named_once")
_LOOP_PROCESSES = into("rlab/runs/loop.py", "tests/test_local.py::test_a_killed_process_is_named_and_nothing_is_lost")
_THREADS = into("rlab/parallel/threads.py", "tests/test_threads.py")
_AGENT = into("agents/agent.py", "tests/test_threads.py", "tests/test_snes.py::test_learns")
_ACTING = into("rlab/policies/acting.py", "tests/test_policies.py", "tests/test_rollout.py")
_RANDOM = into("rlab/ops/random.py", "tests/test_distributions.py")
_COMPILING = into("rlab/ops/compiling.py", "tests/test_compiling.py")
_COMM = into("rlab/parallel/comm.py", "tests/test_mpi.py::test_ranks_gather_and_sum_the_same_bits")
_CHECKPOINTS = into("rlab/runs/checkpoints.py", "tests/test_runs.py")
_MEMORY = into("envs/memory.py", "tests/test_memory_envs.py")
_SEA = into("envs/deep_sea.py", "tests/test_memory_envs.py::test_the_deep_sea_by_hand")
_CATCH = into("envs/catch.py", "tests/test_memory_envs.py::test_catch_by_hand")
_ROWS = into("envs/batched.py", "tests/test_memory_envs.py::test_many_copies_play_what_single_ones_play")
_WRAPPERS = into("envs/wrappers.py", "tests/test_envs.py")

PLANTED = (
    # Play.
    _BACKGROUND("the first frames are looked at", "seen[_GLANCES // 2 :]", "seen[:1]"),
    _ROLLOUT("what was looked at stays open", "calls.close_all([env])", "pass"),
    _BACKGROUND("the background is a mean", "np.median(", "np.mean("),
    _BACKGROUND_OF_A3C("images are standardized", "if self._new and self.policy.reading.image", "if False"),
    _PIXELS("pixels are about their least", "pixels - reading.background", "pixels - reading.low"),
    _PIXELS("a unit is the whole range", "_CONTRAST = 4.0", "_CONTRAST = 1.0"),
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
    _NORMALIZATION("all returns count alike", "_DECAY * self._sums + (1.0 - _DECAY) * sums", "self._sums + sums"),
    _NORMALIZATION(
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
        "test_an_actor_critic_pair_gives_values_in_the_scale_of_the_returns",
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
        "default_rng([self.seed, self._fits])",
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
    into("rlab/models/gan.py", "tests/test_rewards.py")(
        "the discriminator's classes are swapped",
        "tf.nn.softplus(-odds)) + tf.reduce_mean(tf.nn.softplus(false)",
        "tf.nn.softplus(odds)) + tf.reduce_mean(tf.nn.softplus(-false)",
        "test_the_discriminator_rewards_what_the_demonstrator_does",
    ),
    _IMITATION(
        "the reward is ln(1 − σ)",
        "given = np.logaddexp(0.0, odds)",
        "given = np.logaddexp(0.0, -odds)",
        "test_the_discriminator_rewards_what_the_demonstrator_does",
    ),
    _IMITATION(
        "the true reward is shown",
        "replaces: ClassVar[bool] = True",
        "replaces: ClassVar[bool] = False",
        "test_an_imitating_agent_never_sees_the_rewards",
    ),
    _SCHEDULES("nothing falls", "max(1.0 - (steps - self.start) / (self.end - self.start), 0.0)", "1.0"),
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
    into("rlab/state.py", "tests/test_laws.py")(
        "a part takes its namesakes too",
        'if name.startswith(f"{prefix}/")',
        "if name.startswith(prefix[:1])",
        "tests/test_laws.py::test_a_part_of_a_checkpoint_is_that_part",
    ),
    _SHARED(
        "staleness counts one's own update",
        "staleness = self.updates - work.pulled_at",
        "staleness = self.updates + 1 - work.pulled_at",
        "test_staleness_counts_the_updates_of_others",
    ),
    _SHARED(
        "a snapshot moves",
        "return self.vector.copy(), updates",
        "return self.vector, updates",
        "test_a_snapshot_does_not_move",
    ),
    _SHARED(
        "the mean square grows from 0",
        "min(self._decay, updates / (updates + 1.0))",
        "self._decay",
        "test_at_first_the_mean_square_is_a_plain_mean",
    ),
    _SHARED(
        "the mean square stays a plain mean",
        "min(self._decay, updates / (updates + 1.0))",
        "updates / (updates + 1.0)",
        "test_at_first_the_mean_square_is_a_plain_mean",
    ),
    _SHARED("steps are not counted", "+= 1, work.steps", "+= 1, 0", "test_threads_lose_no_count"),
    _SHARED(
        "all workers count in one row",
        "self.counts[work.worker]",
        "self.counts[0]",
        "test_parameters_that_move_to_other_memory_are_one_for_all_who_have_it",
    ),
    _SHARED(
        "the count begins at zero",
        "self.counts[-1] = updates, steps",
        "self.counts[-1] = 0, 0",
        "test_threads_lose_no_count",
    ),
    _SHARED(
        "who moves forgets what it had",
        "if fill:",
        "if not fill:",
        "test_parameters_that_move_to_other_memory_are_one_for_all_who_have_it",
    ),
    _SHARED(
        "all may go from the start",
        "return Line(start, end, height), bool(over)",
        "return Line(start, end, height), True",
        "test_parameters_that_move_to_other_memory_are_one_for_all_who_have_it",
    ),
    _LOCAL("the last rank counts twice", "total = parts[0]\n", "total = parts[-1]\n"),
    _LOCAL(
        "nobody waits before the next part",
        "            self.meet()  # before anybody writes the next part\n",
        "",
        "test_a_slow_rank_reads_what_was_put_together",
    ),
    _LOCAL("messages end at their first part", "start + _CHUNK < len(view))", "False)"),
    _LOCAL("wires share a channel", "self._channels += 1", "pass", "test_wires_keep_messages_apart"),
    _LOCAL(
        "tags are all one",
        "place = channel, source, tag",
        "place = channel, source, 0",
        "test_wires_keep_messages_apart",
    ),
    _LOCAL(
        "all ranks have the same cores",
        "cores[rank::size]",
        "cores[:1]",
        "test_each_rank_has_cores_of_its_own_where_there_are_enough",
    ),
    _LOCAL(
        "a lost rank is not missed",
        "if lost := self.lost():",
        "if False:",
        "test_a_rank_that_waits_for_one_that_has_ended_gets_an_error",
    ),
    _LOCAL(
        "a killed rank has failed by itself",
        "if lost.code < 0 else",
        "if lost.code > 0 else",
        "test_a_rank_that_waits_for_one_that_has_ended_gets_an_error",
    ),
    _LOCAL(
        "a fork outlives its parent",
        "    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)\n",
        "",
        "test_a_killed_command_takes_its_processes_along",
    ),
    _LOCAL(
        "a fork hears signals",
        "signal.signal(number, signal.SIG_IGN)",
        "pass",
        "test_a_signal_stops_all_with_a_checkpoint",
    ),
    _LOCAL(
        "any process may be forked",
        "return _allowed and",
        "return",
        "test_a_process_that_is_no_program_of_one_command_is_never_forked",
    ),
    _LOCAL(
        "a signal that stops all is a fault",
        "code < 0 or 0 < code <= 128",
        "code",
        "test_a_rank_that_was_stopped_by_a_signal_as_all_are_is_no_fault",
    ),
    _LOCAL(
        "who does not end is left",
        "_kill([pid for rank, pid in self.children.items() if rank not in self._ended])",
        "pass",
        "test_a_rank_that_does_not_end_is_ended",
    ),
    _REMOTE("step sizes do not fall elsewhere", "line.left(steps), done)", "1.0, done)"),
    _REMOTE(
        "updates beside are told of twice",
        "self._exchange.report(*note)",
        "self._exchange.report(*note); self._exchange.push(gradient, note.work)",
    ),
    _REMOTE(
        "the workers of a killed process are waited for",
        "if place[0] not in gone}",
        "if place}",
        "test_a_killed_process_is_named_and_nothing_is_lost",
    ),
    _A3C_PROCESSES(
        "all processes have the same workers",
        "first = sum(workers[: self._comm.rank])",
        "first = 0",
    ),
    _LOOP_PROCESSES("a lost process takes what was learned", "if not in_step:", "if False:"),
    _AGENT("the first share alone is closed", "for one in learners:", "for one in learners[:1]:"),
    _AGENT("how it acts is not written", ", deterministic=_is_deterministic(self.config))", ")"),
    _ACTING("captured tensors are left out", "args=[*tensors, *inside]", "args=list(tensors)"),
    _ACTING("the memory comes first", "found[first:]) if remembers", "found[:first]) if remembers"),
    _RANDOM(
        "of the low bits",
        "right_shift(bits, tf.constant(9, tf.uint32))",
        "right_shift(bits, tf.constant(8, tf.uint32))",
    ),
    _RANDOM("the pair is one number", "tf.cos(angle) * radius", "tf.sin(angle) * radius"),
    _RANDOM("pairs lie along the last axis", "if size % 2 == 0), sizes", "if size < 0), sizes"),
    _THREADS("what is found is read too early", "self._meeting.wait()\n        return", "return"),
    _THREADS("nobody is told of a fault", "team.part()\n                raise", "raise"),
    _THREADS("a fault of another is none", "if fault or own:", "if own and not fault:"),
    _THREADS("ranks are numbered anew in each process", "process.rank * team.size + number", "number"),
    _THREADS("what is asked for counts not", "return asked if asked and", "return processes if asked and"),
    _THREADS(
        "the first alone is closed",
        "for one in updates:\n            ending",
        "for one in updates[:1]:\n            ending",
    ),
    _COMPILING(
        "no piece of a graph is compiled",
        "    if wants_blocks():\n        return function",
        "    if True:\n        return function",
    ),
    _COMPILING("nothing is halved", "return _traced_for.get().precision", "return FLOAT32"),
    _COMPILING("nothing is compiled", "jit_compile=formulation.compiler == XLA", "jit_compile=False"),
    _COMPILING("graphs run over blocks", "return _traced_for.get().compiler == XLA", "return True"),
    _COMPILING("the slower is taken", "return min(seconds, key", "return max(seconds, key"),
    _COMPILING("keys are not told apart", "(found.encode()).hexdigest()", '(b"").hexdigest()'),
    _COMPILING("a damaged time counts", "all(taken > 0.0 for taken in seconds.values())", "True"),
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
    _ROWS("all rows are the first", "(seed + row) % SEEDS", "seed % SEEDS"),
    _WRAPPERS(
        "the last reward of one episode begins the next",
        "_beside(observations, np.where(ended, 0.0, rewards))",
        "_beside(observations, rewards)",
        "test_the_last_reward_may_be_seen",
    ),
)

"""A3C: asynchronous advantage actor-critic.

Mnih, Badia, Mirza, Graves, Lillicrap, Harley, Silver, Kavukcuoglu: "Asynchronous Methods for Deep Reinforcement
Learning", ICML 2016; algorithm S3.

Several worker threads each repeat, with no lock and no waiting for one another:

    θ' ← θ                                                (pull a snapshot of the shared parameters)
    act T steps in K environments under θ'                (K = 1 is the paper)
    R_t ← r_t + γ ((1 − λ) V(x_{t+1}; θ') + λ R_{t+1}), bootstrapped with V(x_T; θ'); λ = 1 is the paper
    A_t ← R_t − V(x_t; θ')
    Δ ← ∇_θ' mean[ −ln π(a_t|x_t; θ') A_t + c (R_t − V(x_t; θ'))² − β H(π(·|x_t; θ')) ]
    g ← αg + (1 − α)Δ²,  θ ← θ − η Δ / √(g + ε)           (push: shared RMSProp, in place)

The threads may live in several processes of one machine, which have θ and g in memory in common. Under `mpirun` each
rank has such workers of its own; from other machines pull and push are messages to rank 0 (`rlab/parallel/remote.py`),
still with no waiting for one another.

Departures: the loss is a mean over T·K, where the paper sums over T; the gradient's norm is bounded; g begins as the
plain mean of the first Δ²; images are shown about the brightness that most of their pixels have; advantages may be
generalized (λ < 1) and normalized. What each setting did is in docs/algorithms/a3c.md.
"""

import dataclasses
import functools
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

# These packages load TensorFlow only when it is used, so that `--help` answers at once.
from agents import tuning
from rlab import ops, policies, rollout, runs
from rlab.errors import BadInputError, TrainingError, located
from rlab.notify import notify
from rlab.parallel import calls, remote, shared, watch
from rlab.parallel import comm as ranks
from rlab.schedules import Schedule
from rlab.seeding import derive, playing
from rlab.settings import field

if TYPE_CHECKING:
    import tensorflow as tf

    from rlab.types import Trajectory


@dataclasses.dataclass(frozen=True)
class Config(tuning.Tuned, agent="a3c"):
    """The settings of A3C; each is a command-line flag. `defaults/a3c.toml` tunes them by environment."""

    workers: int = field(
        2, "workers, of each rank under mpirun; auto is one to a core, up to 16", low=1, high=1024, auto=True
    )
    envs_per_worker: int = field(8, "K, environments that a worker steps together; 1 is the paper", low=1, high=65_536)
    rollout_length: int = field(5, "T, steps between updates", low=1)
    learning_rate: float = field(1.5e-3, "η, step size of RMSProp", low=0.0, above=True)
    decay_learning_rate: bool = field(True, "let the learning rate fall linearly to 0 at the last step")
    discount: float = field(0.99, "γ, per step", low=0.0, high=1.0)
    gae_lambda: float = field(0.5, "λ of advantages and returns; 1 gives the paper's n-step returns", low=0.0, high=1.0)
    normalize_advantages: bool = field(True, "scale the advantages of a rollout to mean 0 and deviation 1")
    entropy_weight: float = field(3e-3, "β, weight of the entropy bonus, per nat", low=0.0)
    decay_entropy_weight: bool = field(False, "let β fall linearly to 0 at the last step")
    value_weight: float = field(1e-2, "c, weight of the squared value error", low=0.0)
    max_gradient_norm: float = field(0.5, "bound on the gradient's Euclidean norm", low=0.0, above=True)
    rmsprop_decay: float = field(0.99, "α, decay of RMSProp's mean square", low=0.0, high=1.0)
    rmsprop_epsilon: float = field(1e-10, "ε inside RMSProp's root", low=0.0, above=True)
    initial_std: float = field(0.3, "standard deviation of the first real-valued actions", low=0.0, above=True)
    compiler: str = field("auto", "how networks run; auto is the faster here", choices=("auto", "graph", "xla"))
    precision: str = field("float32", "in which convolutions multiply", choices=("float32", "bfloat16"))

    @property
    def formulation(self) -> ops.compiling.Formulation:
        """How its networks run."""
        return ops.compiling.Formulation(self.compiler, self.precision)


class _Common(NamedTuple):
    """What the worker threads of this process hold in common."""

    act: Callable
    gradient: Callable
    first_step: int  # steps that were made before this process began
    environments: list[Any]  # that they play, to be closed when all have ended


_Config = Config  # inside the class the name means its attribute


class A3C:
    """Learns with worker threads that share parameters asynchronously, on one rank or several.

    Args:
        config: the settings; None for those tuned for a named environment, or else `Config()`.
        env: what `envs.factory` takes: a name, which brings what is tuned for it; a class or function that makes one
            `gymnasium.Env`; or one that takes `num_envs` and makes a `VectorEnv`.
        policy: a backbone's name (`rlab.policies.BACKBONES`); None for that tuned for a named environment, or else the
            feed-forward one that fits the observations.
        seed: of parameters, actions and environments. With one worker in all the same seed gives the same bits.

    Raises BadInputError for settings out of range and for spaces that no policy fits.
    """

    Config = Config

    def __init__(
        self,
        config: _Config | None = None,
        env: "str | Callable[..., Any] | None" = None,
        policy: str | None = None,
        seed: int = 0,
    ) -> None:
        self._chosen = tuning.choose(Config, config, env, policy, seed)
        self.config, env, policy, seed, *_ = self._chosen
        self.env, self.seed = env, seed
        self.comm = ranks.world()
        probe = env(num_envs=1, seed=0)
        spaces = probe.single_observation_space, probe.single_action_space
        self._build = functools.partial(policies.build, *spaces, policy, initial_std=self.config.initial_std)
        self.policy = self._build()
        probe.close()
        if self.config.precision != "float32" and not self.policy.reading.image:
            raise BadInputError("--precision bfloat16 is for images, whose convolutions multiply in it")

    def train(
        self,
        run: str | Path,
        steps: int | None = None,
        target_score: float | None = None,
        checkpoint_every: float = 60.0,
    ) -> "runs.TrainingResult":
        """Train for `steps` agent steps, summed over the workers of all ranks, in a new run directory.

        With `target_score` training ends early: when the last 100 episodes average it, the schedule of step sizes falls
        to 0 within a twentieth of `steps`, and the run ends if they average it then too (`rlab.schedules`).
        Without `steps` both are those tuned for a named environment.
        A checkpoint is saved every `checkpoint_every` seconds, 0 being after each update. Ctrl-C raises
        KeyboardInterrupt after one, and the run can be resumed.
        """
        length = self._chosen.length(steps, target_score)
        beginning = runs.begin("a3c", self, run, *length, self.comm, checkpoint_every, self._choose_compiler)
        return self._train(beginning)

    @classmethod
    def resume(
        cls, run: str | Path, env: "str | Callable[..., Any] | None" = None, steps: int | None = None
    ) -> "runs.TrainingResult":
        """Go on with a run from its newest checkpoint, up to `steps` in all (None: as many as the run was begun with).

        Parameters, statistics, counters and the schedule are restored, on any number of ranks; the environments begin
        new episodes, with new seeds. With `steps` the run's target score, if it has one, no longer ends it.
        """
        return tuning.resume(cls, run, env, steps)

    def _train(self, beginning: "runs.Beginning") -> "runs.TrainingResult":
        run, steps, target_score, checkpoint = beginning
        with runs.restoring():
            parameters, schedule = self.restore(checkpoint), Schedule(steps, target_score)
            if checkpoint and "schedule" in checkpoint.counters:  # older runs do not have it
                schedule.restore(checkpoint.counters["schedule"], checkpoint.steps)
        kind = remote.Guest if self.comm.rank else remote.Host
        side = kind(shared.Exchange(parameters, schedule), self.comm, self._workers())
        environments: list[Any] = []
        return runs.run_loop(
            run,
            self._updates(side, parameters.steps, environments, functools.partial(self._settle, run, not checkpoint)),
            functools.partial(self._checkpoint, parameters, schedule),
            steps,
            parameters.steps,
            graph=lambda: policies.trace_graph(self.policy),
            comm=self.comm,
            env=self.env,
            agree=side.agree,
            close=functools.partial(calls.close_all, environments),
        )

    def restore(self, checkpoint: "runs.Checkpoint | None") -> shared.SharedParameters:
        """The shared parameters as a checkpoint holds them, or fresh ones."""
        make = functools.partial(
            shared.SharedParameters,
            decay=self.config.rmsprop_decay,
            epsilon=self.config.rmsprop_epsilon,
            workers=sum(self._workers()),
        )
        if checkpoint is None:
            return make(self.policy.initial_parameters(derive(self.seed, "parameters")))
        vector, mean_square = (
            self.policy.flatten(runs.subset(checkpoint.arrays, part)) for part in ("policy", "mean_square")
        )
        return make(vector, mean_square, steps=checkpoint.steps, updates=checkpoint.counters["updates"])

    def _workers(self) -> list[int]:
        """How many there are on each rank: as the settings say, or of the processes of one command, in all."""
        number, ranks = self.config.workers, self.comm.size
        if not self.comm.of_one_command:
            return [number] * ranks
        return [number * (rank + 1) // ranks - number * rank // ranks for rank in range(ranks)]

    def _checkpoint(self, parameters: shared.SharedParameters, schedule: Schedule) -> "runs.Checkpoint":
        arrays = {f"policy/{name}": array for name, array in self.policy.named(parameters.vector.copy()).items()}
        squares = self.policy.named(parameters.mean_square.copy())
        arrays |= {f"mean_square/{name}": array for name, array in squares.items()}
        counters = {"updates": parameters.updates, "schedule": schedule.state()}
        return runs.Checkpoint(parameters.steps, arrays, counters)

    def _settle(self, run: "runs.Run", new: bool) -> None:
        """What has to be known before a worker acts, all ranks the same; then the policy's description is written."""
        self._choose_compiler()  # of runs of version 0.1 it is not known
        if new and self.policy.reading.image and not self.policy.encoder:
            seed = derive(self.seed, "background")
            found = ranks.on_first(self.comm, lambda: rollout.background(self.env, seed))
            self.policy = self._build(background=found)
        if self.comm.rank == 0:
            runs.save_architecture(run.path, self.policy)

    def _updates(
        self,
        side: "remote.Host | remote.Guest",
        first_step: int,
        environments: list[Any],
        settle: Callable[[], None],
    ) -> "Generator[runs.Update | None, None, None]":
        """Start the workers, and pass on what they report until all are done; stops them when closed or on a fault."""
        settle()
        # For images by what their gradients run by, which is what was measured on this machine.
        formulation = self.config.formulation if self.policy.reading.image else None
        act = policies.compile_acting(self.policy, formulation=formulation)
        gradient = compile_gradient(self.policy, self.config)
        common = _Common(act, gradient, first_step, environments)
        workers = self._workers()
        first, own = sum(workers[: self.comm.rank]), workers[self.comm.rank]
        threads = [
            threading.Thread(
                target=self._work, args=(first + i, side.connect(i), common), name=f"worker-{first + i}", daemon=True
            )
            for i in range(own)
        ]
        with side.running(threads):
            while not side.over():
                report = side.hear(0.1)
                yield runs.Update(*report) if report else None

    def _choose_compiler(self) -> None:
        """Put the faster compiler for this policy on this machine in the place of `auto`; all ranks the same."""
        if self.config.compiler == "auto":
            chosen = ranks.on_first(self.comm, lambda: faster_compiler(self.policy, self.config))
            self.config = dataclasses.replace(self.config, compiler=chosen)

    def _work(self, number: int, exchange: "shared.Exchange | remote.Beside | remote.Line", common: _Common) -> None:
        """One worker thread: pull, act, differentiate, push. A fault is reported, and ends this thread."""
        import tensorflow as tf

        config, step, fault = self.config, common.first_step, None
        try:
            # A resumed run must not replay the same episodes: the seeds depend on where it starts.
            seeds = playing(self.seed, "worker", number, common.first_step)
            with watch.stepping(watch.START):
                env = self.env(num_envs=config.envs_per_worker, seed=seeds.environments)
            # Not closed here: others still play, and a library may have one window or context for all of them.
            common.environments.append(env)
            collector = rollout.Collector(
                env,
                common.act,
                self.policy.initial_state(config.envs_per_worker),
                config.rollout_length,
                config.discount,
                seeds.actions,
                to_environment=self.policy.to_environment,
            )
            while not (snapshot := exchange.pull()).done:
                params, left, step = tf.convert_to_tensor(snapshot.vector), snapshot.left, snapshot.steps
                trajectory, episodes = collector.collect(params)
                rate, entropy_weight = falling(config, left)
                gradient, metrics = common.gradient(params, trajectory, tf.constant(entropy_weight, tf.float32))
                values = dict(zip(METRICS, metrics.numpy().tolist(), strict=True))
                if not np.isfinite(list(values.values())).all():
                    raise TrainingError("the loss or its gradient is not finite (NaN or infinity)")
                values["learning_rate"] = rate
                work = shared.Work(rate, snapshot.updates, trajectory.rewards.size, values, episodes, number)
                exchange.push(gradient.numpy(), work)
        except BaseException as error:  # an environment may raise SystemExit too; nothing may vanish with a thread
            fault = located(error, f"worker {number}, step {step}")
        finally:
            exchange.leave(fault)


def falling(config: Config, left: float) -> tuple[float, float]:
    """η and β where the schedule has `left` so much, in [0, 1], of what falls with it."""
    rate = config.learning_rate * (left if config.decay_learning_rate else 1.0)
    return rate, config.entropy_weight * (left if config.decay_entropy_weight else 1.0)


METRICS = ("loss", "policy_loss", "value_loss", "entropy", "gradient_norm", "mean_value")


def compile_gradient(policy: "policies.Policy", config: Config) -> Callable[..., "tuple[tf.Tensor, tf.Tensor]"]:
    """The compiled gradient: (parameters [D], Trajectory, β) to the bounded gradient [D] and the METRICS [6]."""
    return ops.sharing.once(functools.partial(_compile_gradient, policy, config), "a3c", policy, config)


def _compile_gradient(policy: "policies.Policy", config: Config) -> Callable[..., "tuple[tf.Tensor, tf.Tensor]"]:
    import tensorflow as tf

    def gradient(params: tf.Tensor, trajectory: "Trajectory", entropy_weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(params)
            losses, values = loss(policy, config, params, trajectory, entropy_weight)
        derivative = tape.gradient(losses.total, params)
        norm = tf.norm(derivative)
        derivative *= tf.minimum(1.0, config.max_gradient_norm / (norm + 1e-8))
        return derivative, tf.stack([*losses, norm, tf.reduce_mean(values)])

    return ops.compiling.compiled(gradient, config.formulation)


def faster_compiler(policy: "policies.Policy", config: Config) -> str:
    """The compiler whose gradient takes less time on this machine: measured for images; for vectors XLA.

    XLA differentiates MLPs in half the time of a plain graph, and scans over time in a third.
    """
    if not policy.reading.image:
        return ops.compiling.XLA
    rows, length = config.envs_per_worker, config.rollout_length
    batch = rollout.blank(policy, length, rows)
    params, nothing = policy.initial_parameters(0), np.zeros((), np.float32)

    def call(compiler: str) -> Callable[[], Any]:
        gradient = compile_gradient(policy, dataclasses.replace(config, compiler=compiler))
        return lambda: gradient(params, batch, nothing)[0].numpy()

    calls = {compiler: call(compiler) for compiler in ops.compiling.COMPILERS}
    chosen, seconds = ops.compiling.fastest(
        calls, "a3c", policy.describe(), policy.size, length, rows, config.precision
    )
    told = ", ".join(f"{name} {1e3 * taken:.1f} ms" for name, taken in seconds.items())
    notify(f"compiler {chosen}: a gradient takes by {told} on this machine; --compiler sets it")
    return chosen


def loss(
    policy: "policies.Policy",
    config: Config,
    params: "tf.Tensor",
    trajectory: "Trajectory",
    entropy_weight: "tf.Tensor | float",
) -> "tuple[ops.losses.ActorCriticLoss, tf.Tensor]":
    """The loss of algorithm S3 on one trajectory, and the values [T, B] that it saw; β is `entropy_weight`."""
    import tensorflow as tf

    output, _ = policy.apply(params, trajectory.observations, trajectory.state, trajectory.resets)
    advantages = ops.returns.generalized_advantage(
        trajectory.rewards,
        trajectory.discounts,
        trajectory.boundaries,
        trajectory.values,
        trajectory.next_values,
        config.gae_lambda,
    )
    returns = advantages + trajectory.values
    if config.normalize_advantages:
        deviation = tf.math.reduce_std(advantages)
        advantages = (advantages - tf.reduce_mean(advantages)) / (deviation + 1e-6)
    losses = ops.losses.actor_critic(
        output.distribution,
        output.values,
        trajectory.actions,
        advantages,
        returns,
        config.value_weight,
        entropy_weight,
    )
    return losses, output.values

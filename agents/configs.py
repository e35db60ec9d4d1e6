"""The settings of every agent, apart from their code so that `--help` answers without TensorFlow.

Each field is a command-line flag, with its meaning, its unit and its range; `defaults/<agent>.toml` tunes them by
environment.
"""

import dataclasses
from typing import Self

from agents.tuning import Tuned
from rlab.environments import EnvironmentFactory
from rlab.errors import BadInputError
from rlab.parallel.threads import require_multiple, shares
from rlab.settings import field


@dataclasses.dataclass(frozen=True)
class A3CConfig(Tuned, agent="a3c"):
    """Settings of A3C: asynchronous advantage actor-critic."""

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


@dataclasses.dataclass(frozen=True)
class TRPOConfig(Tuned, agent="trpo"):
    """Settings of TRPO: trust region policy optimization."""

    batch_size: int = field(1024, "agent steps to an update, over all ranks", low=2)
    parallel_envs: int = field(16, "environments that play them side by side, over all ranks", low=1)
    shares: int = field(0, "shares of a batch; as many give the same bits on any number of processes", low=0, auto=True)
    sampling: str = field("single-path", "how the gradient is sampled", choices=("single-path", "vine"))
    vine_spacing: int = field(16, "steps of the vine between the states from which its branches go", low=1)
    vine_length: int = field(32, "steps of a branch, after which the critic judges", low=1)
    vine_actions: int = field(
        0, "branches of a state; 0 for each of discrete actions, or 4 drawn from the policy", low=0
    )
    max_kl: float = field(0.03, "δ, bound on the mean KL divergence of an update, nats", low=0.0, above=True)
    decay_max_kl: bool = field(False, "let δ fall linearly to 0 at the last step")
    entropy_weight: float = field(0.0, "weight in L of the policy's mean entropy, per nat", low=0.0)
    damping: float = field(0.1, "added to the diagonal of the Fisher information", low=0.0, above=True)
    cg_iterations: int = field(10, "iterations of conjugate gradient", low=1)
    fisher_subsampling: int = field(1, "take one of n states, others each time, for Fisher products", low=1)
    backtrack: float = field(0.8, "α, factor between the line search's steps", low=0.0, high=0.99, above=True)
    line_search_steps: int = field(10, "steps of the line search at most", low=1)
    discount: float = field(0.99, "γ, per step", low=0.0, high=1.0)
    gae_lambda: float = field(0.95, "λ of the generalized advantage estimate", low=0.0, high=1.0)
    critic: str = field("network", "what expects the returns", choices=("network", "linear"))
    learning_rate: float = field(1e-3, "step size of the critic's Adam", low=0.0, above=True)
    critic_epochs: int = field(10, "passes of the critic over a batch", low=1)
    critic_minibatch: int = field(128, "steps to one step of the critic; one with memory takes whole batches", low=1)
    normalize_observations: bool = field(False, "shift and scale observed vectors by what was seen of them so far")
    observation_scale: float = field(1.0, "factor on observed vectors, normalized or not", low=0.0, above=True)
    normalize_returns: bool = field(True, "let the critic learn standardized returns")
    observe_actions: bool = field(False, "let policy and critic see the previous action")
    initial_std: float = field(1.0, "deviation of first real-valued actions, between −1 and 1", low=0.0, above=True)
    memory_horizon: int = field(0, "steps over which a new LSTM remembers; 0 for forget gates at a bias of 1", low=0)

    def of_ranks(self, ranks: int) -> Self:
        config = dataclasses.replace(self, shares=shares(self.shares, ranks))
        require_multiple("--parallel-envs", config.parallel_envs, config.shares)
        if config.batch_size % config.parallel_envs:
            raise BadInputError(
                f"--batch-size must be a multiple of the {config.parallel_envs} environments, not {config.batch_size}"
            )
        time = config.batch_size // config.parallel_envs
        if config.sampling == "vine" and time % config.vine_spacing:
            raise BadInputError(
                f"--vine-spacing must divide {time} steps of each environment, not {config.vine_spacing}"
            )
        if config.sampling == "vine" and config.vine_actions == 1:
            raise BadInputError("--vine-actions must be at least 2, to be compared, or 0, not 1")
        return config

    @property
    def restorable(self) -> bool:
        return self.sampling == "vine"

    def require_environment(self, env: EnvironmentFactory) -> None:
        if self.restorable and not env.can_save:
            raise BadInputError(
                "--sampling vine needs an environment whose state can be saved and restored; that of "
                f"{env.name} cannot be saved and restored"
            )

    def check_minibatch(self) -> None:
        """Raise BadInputError where a batch does not divide into minibatches of the critic."""
        each, over = divmod(self.critic_minibatch, self.parallel_envs)
        if over or not each or self.batch_size % self.critic_minibatch:
            raise BadInputError(
                f"--critic-minibatch must be a multiple of the {self.parallel_envs} environments that divides the "
                f"batch of {self.batch_size} steps, not {self.critic_minibatch}"
            )


@dataclasses.dataclass(frozen=True)
class RPGConfig(Tuned, agent="rpg"):
    """Settings of RPG: recurrent policy gradients."""

    episodes_per_batch: int = field(4, "N, episodes to an update, over all ranks", low=1)
    shares: int = field(0, "shares of a batch; as many give the same bits on any number of processes", low=0, auto=True)
    learning_rate: float = field(0.0, "step size of the optimizer; 0 for 0.005, or 0.0005 on images", low=0.0)
    decay_learning_rate: bool = field(True, "let the learning rate fall linearly to 0 at the last step")
    optimizer: str = field("adam", "any optimizer of Keras, by its name")
    max_gradient_norm: float = field(1.0, "bound on the gradient's Euclidean norm", low=0.0, above=True)
    discount: float = field(0.95, "γ, per step", low=0.0, high=1.0)
    baseline: str = field("recurrent", "what is expected", choices=("none", "constant", "linear", "recurrent"))
    baseline_clock: bool = field(False, "let the recurrent baseline see the time where a known limit ends episodes")
    baseline_learning_rate: float = field(3e-3, "step size of the recurrent baseline", low=0.0, above=True)
    normalize_advantages: bool = field(True, "scale the advantages of a batch to a root mean square of 1")
    entropy_weight: float = field(0.0, "β, weight of the entropy bonus, per nat and step", low=0.0)
    decay_entropy_weight: bool = field(False, "let β fall linearly to 0 at the last step")
    truncation: int = field(0, "steps beyond which no gradient flows back; 0 for whole episodes", low=0)
    observe_actions: bool = field(True, "let the policy see its previous action")
    normalize_observations: bool = field(False, "shift and scale observed vectors by what was seen of them so far")
    observation_scale: float = field(1.0, "factor on observed vectors, normalized or not", low=0.0, above=True)
    initial_std: float = field(0.25, "deviation of first real-valued actions, between −1 and 1", low=0.0, above=True)
    memory_horizon: int = field(0, "steps over which a new LSTM remembers; 0 for forget gates at a bias of 1", low=0)

    def of_ranks(self, ranks: int) -> Self:
        config = dataclasses.replace(self, shares=shares(self.shares, ranks))
        require_multiple("--episodes-per-batch", config.episodes_per_batch, config.shares)
        return config


@dataclasses.dataclass(frozen=True)
class SNESConfig(Tuned, agent="snes"):
    """Settings of SNES: separable natural evolution strategies."""

    population: int = field(64, "P, members of a generation, over all ranks", low=2)
    group: int = field(0, "members that act at once, and that a rank is given; 0 for a quarter, at most 64", low=0)
    episodes: int = field(1, "episodes of each member", low=1)
    form: str = field("simple", "what is learned: μ alone by an optimizer, or μ and σ", choices=("simple", "full"))
    sigma: float = field(0.1, "σ, standard deviation of the parameters' noise, at first", low=0.0, above=True)
    mirrored: bool = field(True, "let members come in pairs of opposite noise")
    utilities: str = field(
        "auto", "what returns are worth; auto: nes of the full form", choices=("auto", "centered-ranks", "nes")
    )
    optimizer: str = field("adam", "of the simple form", choices=("adam", "sgd"))
    learning_rate: float = field(0.0, "of the optimizer; of the full form η_μ; 0 for 0.01, or 1 of the full", low=0.0)
    decay_learning_rate: bool = field(False, "let the step of μ fall linearly to 0 at the last step")
    sigma_rate: float = field(0.0, "η_σ of the full form; 0 for (3 + ln D)/(5 √D)", low=0.0)
    weight_decay: float = field(0.0, "of the simple form: so many times μ is taken from ∇_μ", low=0.0)
    deterministic: bool = field(True, "let members take their likeliest actions")
    normalize_observations: bool = field(False, "shift and scale observed vectors by what was seen of them so far")
    observation_scale: float = field(1.0, "factor on observed vectors, normalized or not", low=0.0, above=True)
    observe_actions: bool = field(False, "let policies see the previous action")
    memory_horizon: int = field(0, "steps over which a new LSTM remembers; 0 for forget gates at a bias of 1", low=0)
    reference_batch: int = field(128, "observations of random actions to which a `vbn-` backbone refers", low=2)
    verify_every: int = field(10, "generations after which the ranks compare their parameters", low=1)

    def of_ranks(self, ranks: int) -> Self:
        config = self
        pair, full = 2 if self.mirrored else 1, config.form == "full"
        if config.utilities == "auto":
            config = dataclasses.replace(config, utilities="nes" if full else "centered-ranks")
        if not config.learning_rate:
            config = dataclasses.replace(config, learning_rate=1.0 if full else 0.01)
        if config.population % pair:
            raise BadInputError(f"--population must be even for mirrored noise, not {config.population}")
        if config.population < ranks * pair:
            raise BadInputError(
                f"--population must have {'a pair' if pair == 2 else 'a member'} for each of the {ranks} ranks, "
                f"{ranks * pair} members at least, not {config.population}"
            )
        if not config.group:
            most = max(min(config.population // 4, 64), pair)
            fitting = [group for group in range(pair, most + 1, pair) if config.population % group == 0]
            config = dataclasses.replace(config, group=max(fitting))
        if config.mirrored and config.group % 2:
            raise BadInputError(f"--group must be even for mirrored noise, not {config.group}")
        if config.population % config.group:
            raise BadInputError(f"--group must divide the population of {config.population}, not {config.group}")
        if config.population // config.group < ranks:
            enough = range(pair, config.population // ranks + 1, pair)
            largest = max(group for group in enough if config.population % group == 0)
            raise BadInputError(
                f"--population must have a group of {config.group} for each of the {ranks} ranks, "
                f"{config.group * ranks} members at least, not {config.population}; --group {largest} would do"
            )
        return config


def falling(config: A3CConfig | RPGConfig, left: float) -> tuple[float, float]:
    """The step size and the entropy weight when the schedule has the fraction `left`, in [0, 1], of its fall to go."""
    rate = config.learning_rate * (left if config.decay_learning_rate else 1.0)
    return rate, config.entropy_weight * (left if config.decay_entropy_weight else 1.0)


# By the agents' names on the command line.
CONFIGS: dict[str, type[Tuned]] = {kind.agent: kind for kind in (A3CConfig, RPGConfig, SNESConfig, TRPOConfig)}

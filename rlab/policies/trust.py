"""The trust-region step of a policy on a batch of steps, alone or of all ranks together."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rlab.ops import trust_region
from rlab.ops.sharing import once
from rlab.parallel.comm import Communicator
from rlab.policies.acting import Share
from rlab.policies.policy import Policy
from rlab.seeding import derive
from rlab.types import Branches


class TrustRegion(NamedTuple):
    """How far a step may go, and how it is found; the settings of `agents.TRPO` by their names."""

    max_kl: float
    entropy_weight: float
    damping: float
    cg_iterations: int
    backtrack: float
    line_search_steps: int


class Batch(NamedTuple):
    """The steps of one rank: T' × R, time-major; without memory all steps are one row of time, [1, T·B]."""

    observations: Any  # [T', R, ...]
    resets: Any  # [T', R]
    actions: Any  # [T', R, ...]
    advantages: Any  # [T', R], standardized
    state: Any  # the actor's memory before the first of them
    branches: Branches | None = None  # of the vine: the surrogate is then of these
    fewer: Any = None  # int32 [M], the columns whose states Fisher products take; None for all


def compile_trust_step(policy: Policy, comm: Communicator, region: TrustRegion) -> Callable[..., Any]:
    """(parameters [D], Batch, δ) to the step within a trust region of δ nats and the entropy before it.

    Alone, and of vectors without memory, all of it is one call of XLA. A memory's Fisher products are plain TensorFlow:
    of a loop that is differentiated twice XLA takes the data for constants, and compiles anew for each batch. So are
    those of images: inside a loop XLA's convolutions run ten times slower. Of ranks that share a batch each compiles
    its parts, and what is a mean over states is one over those of all ranks.
    """
    make = functools.partial(_compile_trust_step, policy, comm, region)
    return once(make, "trust", policy, id(comm) if comm.size > 1 else None, region)


def _compile_trust_step(policy: Policy, comm: Communicator, region: TrustRegion) -> Callable[..., Any]:
    alone, apart = comm.size == 1, not policy.light
    compiled = functools.partial(tf.function, jit_compile=True, autograph=False)
    compiled_products = functools.partial(tf.function, jit_compile=not apart, autograph=False)
    distribution = functools.partial(distribution_of, policy)

    def gradient(params: tf.Tensor, batch: Batch) -> tuple:
        with tf.GradientTape() as tape:
            tape.watch(params)
            now = distribution(params, batch)
            log_prob = log_probabilities(now, batch)
            entropy = tf.reduce_mean(now.entropy())
            value = surrogate(log_prob, tf.stop_gradient(log_prob), batch) + region.entropy_weight * entropy
        return tape.gradient(value, params), entropy, now

    def fisher(params: tf.Tensor, batch: Batch, vector: tf.Tensor) -> tf.Tensor:
        return trust_region.fisher_vector_product(lambda at: distribution(at, batch), params, vector)

    def product(params: tf.Tensor, batch: Batch, vector: tf.Tensor) -> tf.Tensor:
        return mean(fisher(params, batch, vector)) + region.damping * vector

    def solve(params: tf.Tensor, batch: Batch, slope: tf.Tensor) -> tf.Tensor:
        if alone:
            fisher_matvec = trust_region.fisher_matvec(functools.partial(distribution, batch=batch), params)
            matvec = lambda vector: fisher_matvec(vector) + region.damping * vector  # noqa: E731
        else:
            matvec = functools.partial(product, params, batch)
        return trust_region.conjugate_gradient(matvec, slope, region.cg_iterations).x

    def evaluate(params: tf.Tensor, batch: Batch, old: Any) -> tf.Tensor:
        new = distribution(params, batch)
        value = surrogate(log_probabilities(new, batch), log_probabilities(old, batch), batch)
        value += region.entropy_weight * tf.reduce_mean(new.entropy())
        return tf.stack([value, tf.reduce_mean(old.kl(new))])

    def mean(value: tf.Tensor) -> tf.Tensor:
        return value if alone else tf.constant(comm.sum(value.numpy()) / np.float32(comm.size))

    def step(params: tf.Tensor, batch: Batch, max_kl: tf.Tensor) -> tuple:
        # Once, and not for every product; None where there are no branches.
        batch = tf.nest.map_structure(lambda part: part if part is None else tf.convert_to_tensor(part), batch)
        slope, entropy, old = gradient(params, batch)
        slope, fewer = mean(slope), subsampled(batch)
        direction = solve(params, fewer, slope)
        found = trust_region.natural_step(
            lambda at: tuple(tf.unstack(mean(evaluate(at, batch, old)))),
            slope,
            direction,
            product(params, fewer, direction),
            params,
            max_kl,
            region.damping,
            region.backtrack,
            region.line_search_steps,
        )
        return found, mean(entropy)

    if alone and not apart:
        return compiled(step)
    gradient, evaluate = compiled(gradient), compiled(evaluate)
    if alone:
        solve, product = compiled_products(solve), compiled_products(product)
    else:
        fisher = compiled_products(fisher)
    return step


def surrogate(log_prob: tf.Tensor, old: tf.Tensor, batch: Batch) -> tf.Tensor:
    """L of `log_probabilities` now, and as they were when the batch was played.

    Of a single path E[π/π_old A]; of a vine the mean over its states of Σ_k w_k Q_k / Σ_k w_k, with w_k = π/π_old of
    actions that were drawn, and w_k = π where each action was tried (TRPO, section 5.2).
    """
    if batch.branches is None:
        return tf.reduce_mean(tf.exp(log_prob - old) * batch.advantages)
    weights = tf.exp(log_prob - batch.branches.sampled * old)
    valued = tf.reduce_sum(weights * batch.branches.values, 0)
    return tf.reduce_mean(valued / tf.reduce_sum(weights, 0))


def log_probabilities(distribution: Any, batch: Batch) -> tf.Tensor:
    """ln π of the actions that the surrogate is of: [T', R] of a path, [K, N] of a vine."""
    if batch.branches is None:
        return distribution.log_prob(batch.actions)
    chosen = [
        tf.gather(tf.reshape(part, (-1, *part.shape[2:])), batch.branches.steps)
        for part in tf.nest.flatten(distribution)
    ]
    return tf.nest.pack_sequence_as(distribution, chosen).log_prob(batch.branches.actions)


def distribution_of(policy: Policy, params: tf.Tensor, batch: Batch) -> Any:
    """π at every step of a batch."""
    actions = batch.actions if policy.observe_actions else None
    return policy.apply(params, batch.observations, batch.state, batch.resets, actions)[0].distribution


def as_rows(batch: Batch) -> Batch:
    """A batch [T, B] whose policy has no memory as one of [1, T·B]: no loop over time is needed."""
    if tf.nest.flatten(batch.state):
        return batch
    return batch._replace(**{name: part.reshape(1, -1, *part.shape[2:]) for name, part in _steps(batch).items()})


def subsampled(batch: Batch) -> Batch:
    """The columns of a batch that Fisher products take; with memory each is an environment's."""
    if batch.fewer is None:
        return batch
    state = tf.nest.map_structure(lambda part: tf.gather(part, batch.fewer), batch.state)
    return batch._replace(
        state=state, **{name: tf.gather(part, batch.fewer, axis=1) for name, part in _steps(batch).items()}
    )


def fewer_columns(
    policy: Policy, shape: tuple[int, int], number: int, seed: int, turn: int, share: Share | None = None
) -> np.ndarray | None:
    """The columns of a batch [T, B] that the Fisher products of the `turn`-th update take, one in `number`; None: all.

    With memory they are whole environments. A `share` is a rank's of a batch of all ranks.
    """
    if number == 1:
        return None
    if policy.remembers:
        return turning_rows(shape[1], number, turn)
    return drawn_steps(*shape, number, derive(seed, "fisher", turn), *(share or (0, shape[1])))


def drawn_steps(time: int, rows: int, number: int, seed: int, first: int, total: int) -> np.ndarray:
    """Indices int32 [M] of one in `number` of the T·B steps, time-major, as many of each environment, drawn by `seed`.

    Every step is as likely as any other, so their mean Fisher information is without bias that of all. A rank that has
    the environments from `first` on, of `total`, draws those of its own that one process would draw.
    """
    keys = np.random.default_rng(seed).random((total, time))[first : first + rows]
    times = np.argsort(keys, axis=1)[:, : -(-time // number)]
    return np.sort(times * rows + np.arange(rows)[:, None], axis=None).astype(np.int32)


def turning_rows(rows: int, number: int, turn: int) -> np.ndarray:
    """Indices int32 [⌈B/n⌉] of every n-th environment, counted from the `turn`-th: in B turns each comes as often."""
    return np.sort((turn + number * np.arange(-(-rows // number))) % rows).astype(np.int32)


def _steps(batch: Batch) -> dict[str, Any]:
    """The arrays [T', R, ...]."""
    return {name: part for name, part in batch._asdict().items() if name not in ("state", "branches", "fewer")}

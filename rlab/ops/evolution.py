"""Evolution: a search distribution over parameters, its noise without storage, and the natural gradient of its score.

Wierstra, Schaul, Glasmachers, Sun, Peters, Schmidhuber: "Natural evolution strategies" (NES), JMLR 15, 2014, for the
separable form; Salimans, Ho, Chen, Sidor, Sutskever: "Evolution strategies as a scalable alternative to reinforcement
learning" (ES), 2017. A member i of a population of P has the parameters μ + σ s_i, s_i ~ N(0, I). Its noise is a
function of (seed, generation, i): any rank computes it where it is needed, in any order, and none stores it.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf


class SearchDistribution(NamedTuple):
    """N(μ, diag σ²) over parameters."""

    mean: tf.Tensor  # μ, float32 [D]
    sigma: tf.Tensor  # σ ≥ 0, float32 [D]; 0 where a parameter is not searched


class Gradient(NamedTuple):
    """The natural gradient of the expected utility: with respect to μ in units of σ, and to ln σ²."""

    mean: tf.Tensor  # Σ u_i s_i, float32 [D]
    log_variance: tf.Tensor  # Σ u_i (s_i² − 1), float32 [D]


def centered_ranks(fitness: np.ndarray) -> np.ndarray:
    """Fitness [P] to ranks in [−½, ½], float32 [P], sum 0; equals share their mean rank (ES).

    Infinities have their place at the ends; raises ValueError for NaN, which has none.
    """
    ranks = np.arange(len(fitness)) / max(len(fitness) - 1, 1) - 0.5
    return _by_rank(fitness, ranks)


def nes_utilities(fitness: np.ndarray) -> np.ndarray:
    """Fitness [P] to u = max(0, ln(P/2 + 1) − ln k)/Σ − 1/P for the k-th best, float32 [P] (NES).

    They sum to 0; equals share the mean of theirs. Infinities have their place at the ends; raises ValueError for NaN,
    which has none.
    """
    count = len(fitness)
    raw = np.maximum(0.0, np.log(count / 2.0 + 1.0) - np.log(np.arange(count, 0, -1)))
    return _by_rank(fitness, raw / raw.sum() - 1.0 / count)


def _by_rank(fitness: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The value of each member by the rank of its fitness, from `values` [P] of the worst to the best; equals share."""
    if np.isnan(fitness).any():  # NumPy would sort it after the best
        raise ValueError(f"the fitness of member {int(np.flatnonzero(np.isnan(fitness))[0])} is NaN, which has no rank")
    _, index, counts = np.unique(fitness, return_inverse=True, return_counts=True)
    means = np.add.reduceat(values, np.cumsum(counts) - counts) / counts
    return means[index].astype(np.float32)


def noise(seed: tf.Tensor, generation: tf.Tensor, members: tf.Tensor, size: int) -> tf.Tensor:
    """s ~ N(0, I) of members [G] of a generation, float32 [G, `size`]; int32 `seed`, `generation` and members.

    Threefry-2x32 (Salmon, Moraes, Dror, Shaw 2011) with the key (seed, generation) and the counter (member, i) gives
    two words, for the parameters i and ⌈D/2⌉ + i of a member; the inverse of the normal distribution makes them normal,
    which XLA computes five times faster than the sines of Box and Muller.

    It is compiled even where it is called eagerly, so that its bits do not depend on how many members are asked for.
    """
    return _noise(*(tf.convert_to_tensor(number, tf.int32) for number in (seed, generation, members)), size)


@tf.function(jit_compile=True, autograph=False)
def _noise(seed: tf.Tensor, generation: tf.Tensor, members: tf.Tensor, size: int) -> tf.Tensor:
    half = (size + 1) // 2
    counter = tf.meshgrid(_bits(members), _bits(tf.range(half)), indexing="ij")
    words = threefry((_bits(seed), _bits(generation)), (counter[0], counter[1]))
    return normal_from_words(tf.concat(words, -1)[:, :size])


def normal_from_words(words: tf.Tensor) -> tf.Tensor:
    """Random words, uint32, as standard normal numbers, float32: finite for every word."""
    # 23 bits, so that the middle of each cell is a float32 and none is ±1; by way of int32, which XLA converts faster.
    cells = tf.cast(tf.bitcast(tf.bitwise.right_shift(words, 9), tf.int32), tf.float32)
    return np.float32(np.sqrt(2.0)) * tf.math.erfinv((cells + 0.5) / 2.0**22 - 1.0)


def threefry(key: tuple[tf.Tensor, tf.Tensor], counter: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Two random words of 32 bits for each counter, uint32 as it is: 20 rounds of Threefry-2x32."""
    keys = (*key, tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(*key), np.uint32(0x1BD11BDA)))
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for block in range(5):
        for distance in _ROTATIONS[block % 2]:
            x = x + y
            turned = tf.bitwise.bitwise_or(tf.bitwise.left_shift(y, distance), tf.bitwise.right_shift(y, 32 - distance))
            y = tf.bitwise.bitwise_xor(x, turned)
        x, y = x + keys[(block + 1) % 3], y + keys[(block + 2) % 3] + np.uint32(block + 1)
    return x, y


_ROTATIONS = tuple(np.array(row, np.uint32) for row in ((13, 15, 26, 6), (17, 29, 16, 24)))


def _bits(number: tf.Tensor) -> tf.Tensor:
    return tf.bitcast(number, tf.uint32)


def member_parameters(
    search: SearchDistribution, seed: tf.Tensor, generation: tf.Tensor, members: tf.Tensor, mirrored: bool = True
) -> tf.Tensor:
    """The parameters μ + σ s_i of members [G], float32 [G, D].

    Of a mirrored population (Brockhoff et al. 2010; ES) 2j and 2j + 1 have the noise of j, one with each sign.
    """
    if not mirrored:
        return search.mean + search.sigma * noise(seed, generation, members, search.mean.shape[0])
    sign = 1.0 - 2.0 * tf.cast(members % 2, tf.float32)
    return search.mean + search.sigma * sign[:, None] * noise(seed, generation, members // 2, search.mean.shape[0])


def natural_gradient(
    seed: tf.Tensor,
    generation: tf.Tensor,
    utilities: tf.Tensor,
    size: int,
    mirrored: bool = True,
    chunk: int = 16,
) -> Gradient:
    """The natural gradient from the utilities [P] of a whole population, for `size` parameters.

    The noise is made again, a `chunk` of members at a time and always in the same order; `chunk` must divide P, or P/2
    of a mirrored population.
    """
    # Within a pair s changes its sign, and s² does not.
    first, second = utilities[0::2], utilities[1::2]
    of_noise, of_square = (first - second, first + second) if mirrored else (utilities, utilities)
    of_noise, of_square = tf.reshape(of_noise, (-1, chunk)), tf.reshape(of_square, (-1, chunk))

    def body(i: tf.Tensor, mean: tf.Tensor, log_variance: tf.Tensor) -> tuple:
        made = noise(seed, generation, i * chunk + tf.range(chunk), size)
        mean += tf.linalg.matvec(made, of_noise[i], transpose_a=True)
        log_variance += tf.linalg.matvec(tf.square(made) - 1.0, of_square[i], transpose_a=True)
        return i + 1, mean, log_variance

    chunks = of_noise.shape[0]
    start = (tf.constant(0), tf.zeros(size), tf.zeros(size))
    _, *found = tf.while_loop(lambda i, *_: i < chunks, body, start, maximum_iterations=chunks)
    return Gradient(*found)


def simple_slope(
    search: SearchDistribution, gradient: Gradient, population: int, sigma: float, weight_decay: float = 0.0
) -> tf.Tensor:
    """1/(P σ) Σ u_i s_i − d μ, float32 [D], the slope in μ to be climbed (ES), d the `weight_decay`.

    0 where σ is: what is not searched does not decay either.
    """
    slope = gradient.mean / (population * sigma) - weight_decay * search.mean
    return tf.where(search.sigma > 0.0, slope, 0.0)


def snes_step(
    search: SearchDistribution, gradient: Gradient, mean_rate: float = 1.0, sigma_rate: float | None = None
) -> SearchDistribution:
    """One step of the separable NES: μ ← μ + η_μ σ Σ u_i s_i, σ ← σ exp(η_σ/2 Σ u_i (s_i² − 1)) (NES, algorithm 6).

    With utilities that sum to 0 the rates are η_μ = 1 and, where `sigma_rate` is None, η_σ = (3 + ln D)/(5 √D).
    """
    if sigma_rate is None:
        sigma_rate = default_sigma_rate(search.mean.shape[0])
    return SearchDistribution(
        search.mean + mean_rate * search.sigma * gradient.mean,
        search.sigma * tf.exp(0.5 * sigma_rate * gradient.log_variance),
    )


def default_sigma_rate(size: int) -> float:
    """η_σ = (3 + ln D)/(5 √D) (NES)."""
    return float((3.0 + np.log(size)) / (5.0 * np.sqrt(size)))

"""Sequences made from a seed: n-back, addition, reversal, copying and repeated copying. All time-major."""

import zlib
from typing import NamedTuple

import numpy as np

from rlab.seeding import derive

_BLOCK = 4096  # drawn at once
_PARTS = {0: "validation", 1: "test"}


class Labelled(NamedTuple):
    """Input sequences with the targets of every step."""

    inputs: np.ndarray  # float32 [T, B, F]
    targets: np.ndarray  # int32 [T, B] classes, or float32 [T, B, bits]
    asked: np.ndarray  # float32 [T, B], 1 where the target counts
    valid: np.ndarray  # float32 [T, B], 0 on padding


class Pairs(NamedTuple):
    """Source and target sequences of tokens, each ended by padding of the token `pad`."""

    source: np.ndarray  # int32 [S, B]
    source_valid: np.ndarray  # float32 [S, B]
    target: np.ndarray  # int32 [T, B], with the end token
    target_valid: np.ndarray  # float32 [T, B], 1 up to and with the end token


def n_back(
    count: int, n: int, k: int, mean_length: float, deviation: float, seed: int, target: str = "match"
) -> Labelled:
    """Random symbols x_t in 0 … k−1, one-hot, F = k, and what is asked about them.

    `match` asks at every step for y_t = 1 where x_t = x_{t−n}, else 0 (so too before there is an x_{t−n}). `symbol`
    asks for x_{t−n} itself, from the n-th step on. Lengths are normal numbers, rounded and kept within
    [n + 1, mean + 4 deviations]; nothing is asked of the padding.
    """
    generator = np.random.default_rng(seed)
    longest = max(n + 1, round(mean_length + 4 * deviation))
    lengths = np.clip(np.rint(generator.normal(mean_length, deviation, count)), n + 1, longest).astype(int)
    symbols = generator.integers(0, k, (longest, count))
    steps = np.arange(longest)[:, None]
    valid = (steps < lengths).astype(np.float32)
    targets = np.zeros((longest, count), np.int32)
    targets[n:] = symbols[n:] == symbols[: longest - n] if target == "match" else symbols[: longest - n]
    inputs = np.eye(k, dtype=np.float32)[symbols] * valid[..., None]
    return Labelled(inputs, targets, valid if target == "match" else valid * (steps >= n), valid)


def repeat_copy(
    batch: int, bits: int, lengths: tuple[int, int], repeats: tuple[int, int], longest: int, seed: int
) -> Labelled:
    """Random binary words to be repeated, the sequence as often as is asked, and then an end marker.

    After deepmind/dnc's `repeat_copy.py` (Graves et al. 2016): F = bits + 2, the words, a channel that marks the start
    and one that tells the number of repeats (divided by 10). Targets are [bits + 1], the last the end marker. `lengths`
    and `repeats` are inclusive ranges; all sequences are padded to `longest` steps.
    """
    generator = np.random.default_rng(seed)
    inputs = np.zeros((longest, batch, bits + 2), np.float32)
    targets = np.zeros((longest, batch, bits + 1), np.float32)
    asked, valid = np.zeros((2, longest, batch), np.float32)
    for b in range(batch):
        length, times = int(generator.integers(*_inclusive(lengths))), int(generator.integers(*_inclusive(repeats)))
        words = generator.integers(0, 2, (length, bits))
        inputs[0, b, bits] = 1.0
        inputs[1 : length + 1, b, :bits] = words
        inputs[length + 1, b, bits + 1] = times / 10.0
        answer, end = length + 2, length + 2 + length * times
        targets[answer:end, b, :bits] = np.tile(words, (times, 1))
        targets[end, b, bits] = 1.0
        asked[answer : end + 1, b] = 1.0
        valid[: end + 1, b] = 1.0
    return Labelled(inputs, targets, asked, valid)


def repeat_copy_steps(length: int, repeats: int) -> int:
    """The number of steps in the longest sequence of `repeat_copy`."""
    return length * (repeats + 1) + 3


ADDITION = "0123456789+"  # the alphabet of addition; the next token is the end, the one after it padding and beginning
END, PAD = len(ADDITION), len(ADDITION) + 1


def additions(count: int, digits: int, part: str, seed: int) -> np.ndarray:
    """Distinct problems (a, b) with up to `digits` digits each, int64 [count, 2], all numbers of digits equally likely.

    `part` is train, validation or test: each problem belongs to one of them. Fewer than `count` where so many do not
    exist.
    """
    generator = np.random.default_rng(derive(seed, part))
    found: dict[tuple[int, int], None] = {}
    before = -1
    while before < len(found) < count:
        before = len(found)
        numbers = generator.integers(0, 10 ** generator.integers(1, digits + 1, (_BLOCK, 2)))
        drawn = [(a, b) for a, b in numbers.tolist() if part_of(f"{a}+{b}".encode(), seed) == part]
        found.update(dict.fromkeys(drawn))
    return np.array(list(found)[:count]).reshape(-1, 2)


def addition_pairs(problems: np.ndarray, digits: int) -> Pairs:
    """Problems as the characters of `a+b` and of their sum. S = 2·digits + 1, T = digits + 2."""
    source = [[*map(ADDITION.index, f"{a}+{b}")] for a, b in problems]
    target = [[*map(ADDITION.index, str(a + b)), END] for a, b in problems]
    return _padded(source, target, 2 * digits + 1, digits + 2, PAD)


def reversals(count: int, symbols: int, longest: int, part: str, seed: int) -> Pairs:
    """Sequences of 1 … longest symbols and the same backwards. The end is token `symbols`, padding `symbols` + 1.

    `part` is train, validation or test: each sequence belongs to one of them. Raises ValueError where none does.
    """
    generator = np.random.default_rng(derive(seed, part))
    found: list[list[int]] = []
    for _ in range(10 + 20 * count // _BLOCK):
        lengths = generator.integers(1, longest + 1, _BLOCK)
        rows = generator.integers(0, symbols, (_BLOCK, longest)).tolist()
        drawn = (row[:length] for row, length in zip(rows, lengths, strict=True))
        found += [sequence for sequence in drawn if part_of(str(sequence).encode(), seed) == part]
        if len(found) >= count:
            break
    if not found:
        raise ValueError(f"there are too few sequences of {symbols} symbols and length {longest} to split")
    found = found[:count]
    return _padded(found, [[*reversed(s), symbols] for s in found], longest, longest + 1, symbols + 1)


def part_of(content: bytes, seed: int) -> str:
    """The part of the data to which something belongs: a tenth to validation, a tenth to test, the rest to train."""
    return _PARTS.get(zlib.crc32(content, seed) % 10, "train")


def _padded(source: list[list[int]], target: list[list[int]], s: int, t: int, pad: int) -> Pairs:
    arrays = []
    for sequences, length in ((source, s), (target, t)):
        tokens = np.full((length, len(sequences)), pad, np.int32)
        for b, sequence in enumerate(sequences):
            tokens[: len(sequence), b] = sequence
        arrays += [tokens, (tokens != pad).astype(np.float32)]
    return Pairs(*arrays)


def _inclusive(bounds: tuple[int, int]) -> tuple[int, int]:
    return bounds[0], bounds[1] + 1

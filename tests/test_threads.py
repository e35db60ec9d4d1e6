"""Ranks that are threads of one process."""

import threading

import numpy as np
import pytest
import toys

import agents
from rlab.parallel import threads
from rlab.parallel.comm import Serial


class Process(Serial):
    """Alone, but with a number of its own."""

    def __init__(self, rank=0, size=1):
        self.rank, self.size = rank, size


@pytest.mark.parametrize(
    ("asked", "processes", "found"), [(0, 1, 1), (0, 3, 3), (4, 2, 4), (2, 2, 2), (3, 2, 2), (2, 4, 4), (6, 1, 6)]
)
def test_the_number_of_shares_is_a_multiple_of_the_processes(asked, processes, found):
    assert threads.shares(asked, processes) == found


def test_a_process_that_has_one_share_is_the_rank_itself():
    process = Process(1, 3)
    assert threads.ranks_of(process, 3) == [process]


def test_ranks_are_numbered_through_all_processes():
    numbers = [[(rank.rank, rank.size) for rank in threads.ranks_of(Process(i, 2), 6)] for i in range(2)]
    assert numbers == [[(0, 6), (1, 6), (2, 6)], [(3, 6), (4, 6), (5, 6)]]


def test_all_ranks_find_the_same_in_their_order():
    ranks = threads.ranks_of(Serial(), 3)
    found = [[], [], []]

    def work(rank):
        for turn in range(50):
            value = np.float32(rank.rank + 1) / np.float32(3 + turn)
            yield rank.gather((rank.rank, turn)), rank.stack(np.array([value])), rank.sum(np.array([value]))

    def updates(rank):
        for result in work(rank):
            found[rank.rank].append(result)
            yield result

    heard = list(threads.together(ranks, [updates(rank) for rank in ranks]))
    assert len(heard) == 50
    for turn, results in enumerate(zip(*found, strict=True)):
        one, two, three = (np.float32(i) / np.float32(3 + turn) for i in (1, 2, 3))
        for gathered, stacked, total in results:
            assert gathered == [(i, turn) for i in range(3)]
            assert stacked.tolist() == [[one], [two], [three]]
            assert total == (one + two) + three


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("waiting", [False, True])
def test_a_fault_of_one_is_raised_and_ends_all(failing, waiting):
    ranks, ended = threads.ranks_of(Serial(), 3), []

    def updates(rank):
        try:
            yield rank.gather(1)
            if rank.rank == failing:
                raise ValueError(f"rank {failing} broke")
            yield rank.gather(2) if waiting else 2
        finally:
            ended.append(rank.rank)

    before = threading.active_count()
    together = threads.together(ranks, [updates(rank) for rank in ranks])
    assert next(together) == [1, 1, 1]
    with pytest.raises(ValueError, match=f"rank {failing} broke"):
        next(together)
    assert sorted(ended) == [0, 1, 2]
    assert threading.active_count() == before


def test_closing_the_first_ranks_updates_ends_all():
    ranks, ended = threads.ranks_of(Serial(), 2), []

    def updates(rank):
        try:
            while True:
                yield rank.gather(rank.rank)
        finally:
            ended.append(rank.rank)

    together = threads.together(ranks, [updates(rank) for rank in ranks])
    assert [next(together), next(together)] == [[0, 1], [0, 1]]
    together.close()
    assert sorted(ended) == [0, 1]


@pytest.mark.parametrize("kind", [agents.TRPO, agents.RPG])
def test_each_share_closes_the_environments_that_it_opened(tmp_path, kind):
    class Counted(toys.Matching):
        opened, closed = [], []

        def __init__(self):
            super().__init__()
            self.opened.append(self)

        def close(self):
            self.closed.append(self)

    size = {"parallel_envs": 4, "batch_size": 128} if kind is agents.TRPO else {"episodes_per_batch": 4}
    kind(kind.Config(shares=2, **size), Counted).train(tmp_path / "run", steps=128)
    assert len(Counted.opened) > 4
    assert set(Counted.closed) == set(Counted.opened)

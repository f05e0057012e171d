"""Threads do the same for many things: each once, and errors come out."""

import threading
from contextlib import closing

import pytest

from warpzone.envs.threads import Threads


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_thing_is_done_once(count: int) -> None:
    done: list[int] = []
    with closing(Threads(count)) as threads:
        threads.run(done.append, range(100))
        threads.run(done.append, [])
    assert sorted(done) == list(range(100))


@pytest.mark.parametrize("count", [1, 3])
def test_so_many_threads_work_the_caller_too(count: int) -> None:
    together = threading.Barrier(count, timeout=5)
    seen: set[int] = set()

    def meet(index: int) -> None:
        together.wait()
        seen.add(threading.get_ident())

    with closing(Threads(count)) as threads:
        threads.run(meet, range(count))
    assert len(seen) == count
    assert threading.get_ident() in seen


def test_the_error_of_the_lowest_index_is_raised_when_all_is_done() -> None:
    done: list[int] = []

    def fail_twice(index: int) -> None:
        done.append(index)
        if index in (3, 6):
            raise LookupError(f"number {index}")

    with (
        closing(Threads(2)) as threads,
        pytest.raises(LookupError, match=r"^number 3$"),
    ):
        threads.run(fail_twice, range(9))
    assert sorted(done) == list(range(9))


def test_work_can_be_finished_twice() -> None:
    done: list[int] = []
    with closing(Threads(2)) as threads:
        work = threads.begin(done.append, range(3))
        assert work.finish() == work.finish() == {}
    assert sorted(done) == [0, 1, 2]


def test_closing_twice_is_allowed_and_joins_the_threads() -> None:
    before = threading.active_count()
    threads = Threads(2)
    threads.run(str, range(2))
    threads.close()
    threads.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("count", [0, -1])
def test_no_threads_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"threads must be 1 or more, got {count}"):
        Threads(count)

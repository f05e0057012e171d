"""What is done for many consoles at once, on threads."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple


class Work(NamedTuple):
    """What threads are at."""

    do_rest: Callable[[], None]
    futures: Sequence[Future[None]]
    errors: dict[int, Exception]

    def finish(self) -> dict[int, Exception]:
        """Do what no thread has begun yet, and wait for the others.

        Returns:
            What was raised, and for which index. Finishing twice is allowed.
        """
        self.do_rest()
        wait(self.futures)
        return self.errors


class Threads:
    """Do the same for each of many things, whichever is next.

    The emulators release the GIL while they emulate, so threads are enough.

    Args:
        count: How many, the caller's too, which lends a hand while it waits; one a core
            if not given.

    Raises:
        ValueError: If there are none.
    """

    def __init__(self, count: int | None = None) -> None:
        if count is not None and count < 1:
            raise ValueError(f"threads must be 1 or more, got {count}")
        self._count = count or os.process_cpu_count() or 1
        # The caller's is no part of it, but nobody has a pool of none.
        self._pool = ThreadPoolExecutor(max(1, self._count - 1), "consoles")

    def begin(self, do_one: Callable[[int], object], indices: Sequence[int]) -> Work:
        """Let the threads do something for each index, and do not wait."""
        errors: dict[int, Exception] = {}
        # Only one thread at a time can take the next one.
        rest = iter(indices)

        def do_rest() -> None:
            for index in rest:
                try:
                    do_one(index)
                except Exception as error:
                    errors[index] = error

        helpers = min(self._count, len(indices)) - 1
        futures = [self._pool.submit(do_rest) for _ in range(helpers)]
        return Work(do_rest, futures, errors)

    def run(self, do_one: Callable[[int], object], indices: Sequence[int]) -> None:
        """Do something for each index, then raise the error of the lowest, if any."""
        if errors := self.begin(do_one, indices).finish():
            raise errors[min(errors)]

    def close(self) -> None:
        """Wait for the threads. Closing twice is allowed."""
        self._pool.shutdown(cancel_futures=True)

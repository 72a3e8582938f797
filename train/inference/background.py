"""Decoding in the background: what comes next is read while the model runs."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_THREADS = 8  # libsndfile and soxr let go of Python's lock, so threads decode side by side


def in_background(
    work: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Generator[Future[Result]]:
    """`work` of each item, in threads; the results come in the order of the items.

    Closed early, it drops what has not begun and waits for what has.

    Args:
        ahead: items that are begun, or done, before their results are asked for, at most.

    Yields:
        A future whose `result()` gives what `work` returned or raises what it raised.
    """
    items = iter(items)
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), "decode") as threads:
        futures = deque(threads.submit(work, item) for item in islice(items, ahead))
        try:
            while futures:
                yield futures.popleft()
                futures += (threads.submit(work, item) for item in islice(items, 1))
        finally:
            for future in futures:
                future.cancel()


def one_ahead(blocks: Iterator[Result]) -> Generator[Result]:
    """The blocks, of which the next one is made in a thread while the last one is worked on."""
    nothing = object()
    with ThreadPoolExecutor(1, "decode") as thread:
        coming = thread.submit(next, blocks, nothing)
        while (block := coming.result()) is not nothing:
            coming = thread.submit(next, blocks, nothing)
            yield block

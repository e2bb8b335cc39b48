"""The thread that works in batches: order, neighbours of a bad item, closing, and clients that went away."""

import asyncio
import threading
from collections.abc import Iterator
from typing import TypeAlias

import pytest

from upnext.serving.batching import BatchingThread

Doubling: TypeAlias = BatchingThread[int, int]


class Doubler:
    """Doubles numbers, fails for negative ones, and notes its batches; `gate` holds it back."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.has_begun = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, items: list[int]) -> list[int]:
        self.has_begun.set()
        assert self.gate.wait(10)
        self.batches.append(items)
        if any(item < 0 for item in items):
            raise ValueError(f"{min(items)} is negative")
        return [2 * item for item in items]


@pytest.fixture
def doubler() -> Doubler:
    return Doubler()


@pytest.fixture
def thread(doubler: Doubler) -> Iterator[Doubling]:
    thread: Doubling = BatchingThread("doubler", doubler, max_batch=4)
    yield thread
    doubler.gate.set()
    thread.close()


async def submit_behind(thread: Doubling, doubler: Doubler, items: list[int]) -> list[asyncio.Task[int]]:
    """Submit items one by one while the thread is busy with the first of them."""
    tasks = [asyncio.create_task(thread.submit(items[0]))]
    await asyncio.to_thread(doubler.has_begun.wait)
    tasks += [asyncio.create_task(thread.submit(item)) for item in items[1:]]
    await asyncio.sleep(0)  # one turn of the loop, in which every task submits
    return tasks


def test_order_and_batches(thread: Doubling, doubler: Doubler) -> None:
    async def main() -> list[int]:
        tasks = await submit_behind(thread, doubler, list(range(10)))
        doubler.gate.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [2 * item for item in range(10)]
    assert doubler.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]]


def test_a_bad_item_fails_alone(thread: Doubling, doubler: Doubler) -> None:
    async def main() -> list[int | BaseException]:
        tasks = await submit_behind(thread, doubler, [1, 2, -3, 4, -5])
        doubler.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    one, two, bad, four, worse = asyncio.run(main())
    assert [one, two, four] == [2, 4, 8]
    assert isinstance(bad, ValueError)
    assert str(bad) == "-3 is negative"
    assert str(worse) == "-5 is negative"
    assert doubler.batches == [[1], [2, -3, 4, -5], [2], [-3], [4], [-5]]


def test_close_finishes_what_waits(doubler: Doubler) -> None:
    thread: Doubling = BatchingThread("doubler", doubler, max_batch=3)

    async def main() -> list[int]:
        tasks = await submit_behind(thread, doubler, list(range(6)))
        doubler.gate.set()
        await asyncio.to_thread(thread.close)
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [0, 2, 4, 6, 8, 10]
    thread.close()  # once more does nothing
    with pytest.raises(AssertionError, match="closed"):
        asyncio.run(thread.submit(1))


def test_who_went_away_harms_nobody(thread: Doubling, doubler: Doubler) -> None:
    async def main() -> list[int | BaseException]:
        tasks = await submit_behind(thread, doubler, [1, 2, -3, 4])
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.wait([tasks[0], tasks[2]])
        doubler.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, two, third, four = asyncio.run(main())
    assert isinstance(first, asyncio.CancelledError)
    assert isinstance(third, asyncio.CancelledError)
    assert (two, four) == (4, 8)


def test_a_loop_that_ended_harms_nobody(thread: Doubling, doubler: Doubler) -> None:
    async def leave() -> None:
        task = asyncio.create_task(thread.submit(1))
        await asyncio.to_thread(doubler.has_begun.wait)
        task.cancel()

    async def stay() -> int:
        return await thread.submit(21)

    asyncio.run(leave())
    doubler.gate.set()
    assert asyncio.run(stay()) == 42


def test_too_few_results_are_a_bug() -> None:
    thread: Doubling = BatchingThread("short", lambda items: [])
    with pytest.raises(AssertionError, match="0 results for 1 items"):
        asyncio.run(thread.submit(1))
    thread.close()

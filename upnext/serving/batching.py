"""One thread that works in micro-batches: whatever waits when it is free goes through together."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["BatchingThread"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class BatchingThread(Generic[Item, Result]):
    """Runs `process` on lists of submitted items, in one thread of its own.

    Under load batches grow by themselves; an idle thread answers a single item at once. Where a batch of several
    fails, its items are tried one by one, so that a bad one does not fail its neighbours.

    Args:     process: a list of items -> their results, in order; max_batch: the largest list.
    """

    def __init__(self, name: str, process: Callable[[list[Item]], Sequence[Result]], max_batch: int = 64) -> None:
        self._process = process
        self._max_batch = max_batch
        self._waiting: queue.SimpleQueue[tuple[Item, asyncio.Future[Result]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def submit(self, item: Item) -> Result:
        """Wait for the item's result; what `process` raises for it is raised here."""
        assert self._thread.is_alive(), "the thread is closed"
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.put((item, future))
        return await future

    def close(self) -> None:
        """Finish what waits, then stop the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            is_last = False
            while len(batch) < self._max_batch and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    is_last = True
                    break
                batch.append(following)
            self._answer(batch)
            del first, batch  # the next one may be long in coming, and items refer to much
            if is_last:
                return

    def _answer(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        batch = [(item, future) for item, future in batch if not future.cancelled()]  # some gave up waiting
        if not batch:
            return
        try:
            results = self._process([item for item, _ in batch])
            assert len(results) == len(batch), f"{len(results)} results for {len(batch)} items"
        except Exception as error:
            if len(batch) > 1:
                for one in batch:
                    self._answer([one])
            else:
                _settle(batch[0][1], None, error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            _settle(future, result, None)


def _settle(future: "asyncio.Future[Result]", result: Result | None, error: Exception | None) -> None:
    def settle() -> None:
        if future.done():  # the client went away
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        future.get_loop().call_soon_threadsafe(settle)

"""The service: a release, the live store, one thread that recommends and one that writes."""

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import torch

from upnext.serving.batching import BatchingThread
from upnext.serving.histories import Histories, LiveEvent
from upnext.serving.intake import Intake
from upnext.serving.recommend import Page, Query, follow_stream, recommend
from upnext.serving.release import Release
from upnext.store.embedded import LmdbStore

__all__ = ["Service"]


class Service:
    """Answers queries and takes events; `close` it when done.

    Args:     release_folder: what publish made; live_folder: where posted events live, made if need be;
              threads: how many threads a model may use.
    """

    def __init__(self, release_folder: Path, live_folder: Path, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self.release = Release.load(release_folder)
        self._live = LmdbStore(live_folder)
        self.histories = Histories(self.release, self._live)
        self._unseen: deque[LiveEvent] = deque(self.histories.posted())
        self.intake = Intake(self._live, self._unseen.extend)
        self._inference: BatchingThread[Query, Page] = BatchingThread("inference", self._recommend)

    async def recommend(self, query: Query) -> tuple[Page, float]:
        """The page of a query, and how many milliseconds it took."""
        start = time.perf_counter()
        page = await self._inference.submit(query)
        return page, (time.perf_counter() - start) * 1000

    async def accept(self, events: list[LiveEvent]) -> None:
        """Take checked events; they are on disk, and in the next answer, when this returns."""
        await self.intake.accept(events)

    def close(self) -> None:
        """Finish what waits and close the stores."""
        self.intake.close()
        self._inference.close()
        self._live.close()
        self.release.histories.close()

    def _recommend(self, queries: list[Query]) -> Sequence[Page]:
        new = [self._unseen.popleft() for _ in range(len(self._unseen))]
        follow_stream(self.release, self.histories, new)
        return recommend(self.release, self.histories, queries)

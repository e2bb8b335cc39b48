"""The service: a release, the live store, one thread that recommends, and two that write events and changes."""

import asyncio
import gc
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from upnext.base.ids import ExternalId
from upnext.serving.assortment import Assortment
from upnext.serving.batching import BatchingThread
from upnext.serving.changes import Change, Changes
from upnext.serving.fallback import Fallback
from upnext.serving.histories import Histories, LiveEvent
from upnext.serving.intake import Intake
from upnext.serving.recommend import Page, Query, follow_stream, recommend
from upnext.serving.records import ItemRecord
from upnext.serving.release import Release
from upnext.store.embedded import LmdbStore

__all__ = ["Service", "ServiceSettings"]

_LOG = logging.getLogger("upnext.serving")


@dataclass(frozen=True)
class ServiceSettings:
    """What a service may use, and who may change its catalogue."""

    threads: int = 1
    """Threads of one model call."""
    budget_ms: int = 60_000
    """A page that is not ready by then is answered with what is popular."""
    admin_token: str | None = None
    """What a request has to know to change the catalogue; None lets nobody."""


class Service:
    """Answers queries and takes events; `close` it when done.

    Args:     release_folder: what publish made; live_folder: where posted events live, made if need be.
    """

    def __init__(self, release_folder: Path, live_folder: Path, settings: ServiceSettings | None = None) -> None:
        self.settings = settings or ServiceSettings()
        torch.set_num_threads(self.settings.threads)
        self.release = Release.load(release_folder)
        self._live = LmdbStore(live_folder)
        self.histories = Histories(self.release, self._live)
        follow_stream(self.release, self.histories, self.histories.posted())  # here, so that no visitor waits for it
        self._unseen: deque[LiveEvent] = deque()
        self.intake = Intake(self._live, self._unseen.extend)
        self._changes = Changes(self._live, self.release.catalogue, "server", self._on_change)
        self._changing: BatchingThread[Sequence[Change], None] = BatchingThread("changes", self._change)
        self._fallback = Fallback(self.histories)
        self._warm_up()
        self._inference: BatchingThread[Query, Page] = BatchingThread("inference", self._recommend)

    async def recommend(self, query: Query) -> tuple[Page, float]:
        """The page of a query, and how many milliseconds it took.

        Where the page is not ready within the budget, or its making fails, it is what is popular.
        """
        start = time.perf_counter()
        try:
            page = await asyncio.wait_for(self._inference.submit(query), self.settings.budget_ms / 1000)
        except TimeoutError:
            page = self._fallback.page(query, f"no answer within {self.settings.budget_ms} ms")
        except Exception as error:
            _LOG.error("a page failed, and this is our bug", exc_info=error)
            page = self._fallback.page(query, "the ranking failed")
        return page, (time.perf_counter() - start) * 1000

    async def accept(self, events: list[LiveEvent]) -> None:
        """Take checked events; they are on disk, and in the next answer, when this returns."""
        await self.intake.accept(events)

    async def change(self, changes: Sequence[Change]) -> None:
        """Change the catalogue, all or nothing; it is on disk, and in the next answer, when this returns.

        Raises:   NotFound, BadRequest: an item that cannot be changed so.
        """
        await self._changing.submit(changes)

    def close(self) -> None:
        """Finish what waits and close the stores."""
        self.intake.close()
        self._changing.close()
        self._inference.close()
        self._live.close()
        self.release.histories.close()

    def _warm_up(self) -> None:
        """Make a page for nobody: what is worked out only once makes no visitor wait."""
        recommend(self.release, self.histories, [Query("", time.time_ns() // 1_000_000)])
        gc.collect()
        gc.freeze()  # what was loaded stays: looking through it again and again would stop pages for tens of ms

    def _recommend(self, queries: list[Query]) -> Sequence[Page]:
        self._changes.follow()
        new = [self._unseen.popleft() for _ in range(len(self._unseen))]
        follow_stream(self.release, self.histories, new)
        pages = recommend(self.release, self.histories, queries)
        if self._fallback.is_old():
            self._fallback.refresh()
        return pages

    def _change(self, groups: list[Sequence[Change]]) -> list[None]:
        self._changes.write([change for group in groups for change in group])
        return [None] * len(groups)

    def _on_change(self, records: Mapping[ExternalId, ItemRecord]) -> None:
        assortment = Assortment(self.release, records)
        assortment.prepare()  # here, so that no request has to wait for it
        self.histories.assortment = assortment

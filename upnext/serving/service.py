"""The service: a running release, the live store, one thread that recommends, and two that write events and changes.

Another release is swapped in between two requests: each request is answered by the release that was running when it
began. Queries wait together with the release that they are for, so the thread that recommends answers a batch that has
some of both in two parts.
"""

import asyncio
import contextlib
import gc
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from upnext.models.student import Student
from upnext.serving.batching import BatchingThread
from upnext.serving.changes import Change
from upnext.serving.choose import Choice, Chosen
from upnext.serving.compiled import compile_network
from upnext.serving.following import Follower, Source
from upnext.serving.histories import Histories, LiveEvent, Told
from upnext.serving.intake import Intake
from upnext.serving.recommend import Page, Query
from upnext.serving.release import Release
from upnext.serving.running import Running
from upnext.store.embedded import LmdbStore

__all__ = ["Service", "ServiceSettings"]

_LOG = logging.getLogger("upnext.serving")

Asked = TypeVar("Asked")


@dataclass(frozen=True)
class ServiceSettings:
    """What a service may use, and who may change its catalogue."""

    threads: int = 1
    """Threads of one model call."""
    budget_ms: int = 60_000
    """A page that is not ready by then is answered with what is popular."""
    admin_token: str | None = None
    """What a request has to know to change the catalogue; None lets nobody."""
    compiled: Path | None = None
    """Where compiled students are kept; None: they answer as they are."""


class Service:
    """Answers queries and takes events; `close` it when done.

    A request takes `running` once, and uses nothing else of a release.

    Args:     release_folder: what publish made; live_folder: where posted events live, made if need be.
    """

    def __init__(self, release_folder: Path, live_folder: Path, settings: ServiceSettings | None = None) -> None:
        self.settings = settings or ServiceSettings()
        torch.set_num_threads(self.settings.threads)
        release = self._loaded(release_folder)
        self._live = LmdbStore(live_folder)
        self.running = Running(release, self._live)
        self.running.catch_up()
        gc.collect()
        gc.freeze()  # what was loaded stays: looking through it again and again would stop pages for tens of ms
        self._told: tuple[Running, ...] = (self.running,)
        self._swapping = threading.Lock()
        self.intake = Intake(self._live, self._tell)
        self._changing: BatchingThread[tuple[Running, Sequence[Change]], None]
        self._changing = BatchingThread("changes", self._change)
        self._inference: BatchingThread[tuple[Running, Query | Choice], Page | Chosen]
        self._inference = BatchingThread("inference", self._answer)
        self._follower: Follower | None = None

    @property
    def release(self) -> Release:
        """The release that new requests are answered by."""
        return self.running.release

    @property
    def histories(self) -> Histories:
        """What it knows of users."""
        return self.running.histories

    @property
    def serves(self) -> str:
        """The name of that release."""
        return self.running.release.name

    @property
    def refused(self) -> str | None:
        """Why the release that should be served by now is not, if so."""
        return None if self._follower is None else self._follower.refused

    async def recommend(self, query: Query, running: Running | None = None) -> tuple[Page, float]:
        """The page of a query, and how many milliseconds it took.

        Where the page is not ready within the budget, or its making fails, it is what is popular.

        Args:     running: the release of the request; unset, the one that runs now.
        """
        start = time.perf_counter()
        running = running or self.running
        try:
            page = await asyncio.wait_for(self._inference.submit((running, query)), self.settings.budget_ms / 1000)
            assert isinstance(page, Page)
        except TimeoutError:
            page = running.fallback.page(query, f"no answer within {self.settings.budget_ms} ms")
        except Exception as error:
            _LOG.error("a page failed, and this is our bug", exc_info=error)
            page = running.fallback.page(query, "the ranking failed")
        return page, (time.perf_counter() - start) * 1000

    async def choose(self, choice: Choice, running: Running | None = None) -> tuple[Chosen, float]:
        """What is wanted of some candidates, and how many milliseconds it took.

        Args:     running: as for `recommend`.
        Raises:   BadRequest: the release has no ranker.
        """
        start = time.perf_counter()
        chosen = await self._inference.submit((running or self.running, choice))
        assert isinstance(chosen, Chosen)
        return chosen, (time.perf_counter() - start) * 1000

    async def accept(self, events: list[LiveEvent]) -> None:
        """Take checked events; they are on disk, and in the next answer, when this returns."""
        await self.intake.accept(events)

    async def change(self, changes: Sequence[Change], running: Running | None = None) -> None:
        """Change the catalogue, all or nothing; it is on disk, and in the next answer, when this returns.

        Args:     running: as for `recommend`.
        Raises:   NotFound, BadRequest: an item that cannot be changed so.
        """
        await self._changing.submit((running or self.running, changes))

    def follow(self, source: Source, period_s: float) -> None:
        """Swap in, from now on, what a source says is to be served."""
        self._follower = Follower(self, source, period_s)

    def swap(self, release_folder: Path) -> None:
        """Load another release beside the one that runs, then answer every request that begins by the new one.

        The old one answers what it was asked before, and is let go. Events and changes go on while this loads, in a
        thread that serves nobody.

        Raises:   BadArtifact, or whatever a broken release brings about: then the old one goes on.
        """
        with _without_collections():
            release = self._loaded(release_folder)
            try:
                new = Running(release, self._live)
                self._told = (self.running, new)
                new.catch_up(lambda: asyncio.run(self.intake.accept([])))  # what was written before it, was told of
                with self._swapping:  # no change of an item comes in between
                    new.changes.follow()
                    self.running = new
            except BaseException:
                release.histories.close()  # a store is opened once: else the next try is refused for that
                raise
            finally:
                self._told = (self.running,)

    def close(self) -> None:
        """Finish what waits and close the stores."""
        if self._follower is not None:
            self._follower.close()
        self.intake.close()
        self._changing.close()
        self._inference.close()
        self._live.close()
        self.release.histories.close()

    def _loaded(self, folder: Path) -> Release:
        release, cache = Release.load(folder), self.settings.compiled
        if cache is not None and isinstance(release.ranker, Student):
            compile_network(release.ranker, folder / "models" / str(release.settings.ranker), cache)
        elif cache is not None:
            why = "no student over features ranks; publish one, or leave serve.compile out"
            _LOG.warning("nothing is compiled of %s: %s", release.name, why)
        return release

    def _tell(self, events: list[Told]) -> None:
        for running in self._told:
            running.unseen.extend(events)

    def _answer(self, asked: list[tuple[Running, Query | Choice]]) -> list[Page | Chosen]:
        pages = _by_release([(running, one) for running, one in asked if isinstance(one, Query)])
        choices = _by_release([(running, one) for running, one in asked if isinstance(one, Choice)])
        answers: dict[tuple[Running, type], Iterator[Page | Chosen]] = {}
        answers |= {(running, Query): iter(running.recommend(some)) for running, some in pages.items()}
        answers |= {(running, Choice): iter(running.choose(some)) for running, some in choices.items()}
        return [next(answers[running, type(one)]) for running, one in asked]

    def _change(self, asked: list[tuple[Running, Sequence[Change]]]) -> list[None]:
        with self._swapping:
            for running, groups in _by_release(asked).items():
                running.changes.write([change for group in groups for change in group])
            self.running.changes.follow()
        return [None] * len(asked)


def _by_release(asked: list[tuple[Running, Asked]]) -> dict[Running, list[Asked]]:
    """What was asked of each release, in order: of one, but around a swap."""
    groups: dict[Running, list[Asked]] = {}
    for running, one in asked:
        groups.setdefault(running, []).append(one)
    return groups


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Look for no garbage meanwhile, and never in what was made: it would stop pages for tens of milliseconds."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()

"""Latency: how long rankers take for hundreds of candidates, with what they read of them there, and as a server has it.

A server reads what the user did from its store, encodes it, counts the aggregates, asks the models whose scores are
read, and then the ranker. Here all of that runs on a release that holds some users' histories and the counts of the
whole log.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, cast

import numpy as np
import torch

from upnext.base.ids import FIRST
from upnext.base.protocols import Ranker
from upnext.events.log import EventLog
from upnext.features.aggregates import ReadsColumns
from upnext.features.catalogue import Catalogue
from upnext.features.online_aggregates import Run
from upnext.features.people import People
from upnext.features.vocabulary import Vocabulary
from upnext.fitting.costs import NUM_ASKED
from upnext.models.build import AnyRanker
from upnext.models.popularity import Popular, PopularConfig
from upnext.models.scorers import Scorer
from upnext.preparation.candidate_features import past_of
from upnext.serving.chain import cover, with_scores
from upnext.serving.choose import Choice, Known
from upnext.serving.counted import declared_by, split_by_user
from upnext.serving.histories import Histories, pack_history
from upnext.serving.rank import candidates_of
from upnext.serving.release import Release, ReleaseSettings
from upnext.store.embedded import LmdbStore

__all__ = ["Served"]

_WARM_UP = 10


class Served:
    """A log as a server knows it, for rankers that are asked one after the other; `close` it when done.

    Args:     folder: of the prepared log. store: an empty folder for what users did. num_requests: of so many users.
    """

    def __init__(self, folder: Path, log: EventLog, store: Path, num_requests: int = 100) -> None:
        self._log, self._catalogue, self._people = log, Catalogue.load(folder), People.load(folder)
        files = {name: folder / f"context.{name}.vocabulary.arrow" for name in log.schema.contexts}
        self._contexts = {name: Vocabulary.load(file) for name, file in files.items() if file.is_file()}
        self._generator = np.random.default_rng(0)
        present = np.flatnonzero(np.diff(log.offsets))
        users = self._generator.choice(present, _WARM_UP + num_requests)
        self._users = [self._people.vocabulary.external(int(user)) for user in users]
        written = LmdbStore(store)
        events = [log.events.take(slice(*log.offsets[user : user + 2].tolist())) for user in users]
        written.put(dict(pack_history(name, some) for name, some in zip(self._users, events, strict=True)))
        written.close()
        self._store = LmdbStore(store, is_read_only=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def seconds(
        self, model: AnyRanker, scorers: Sequence[Scorer] = (), clock: Callable[[], float] = time.perf_counter
    ) -> tuple[list[float], list[float]]:
        """How long each request for `NUM_ASKED` candidates took, with everything there, and with everything computed.

        Args:     scorers: the models that it asks. clock: seconds.
        """
        release = self._release(model, scorers)
        histories, now = Histories(release, None), int(self._log.rows.time_ms.max(initial=0)) + 1
        given, computed = [], []
        for user in self._users:
            items = self._generator.integers(FIRST, len(self._catalogue), NUM_ASKED)
            with torch.inference_mode():
                start = clock()
                known = Known.of(release, histories, [Choice(user, now, [])])
                candidates = candidates_of(histories.assortment, torch.from_numpy(items)[None])
                if known.columns is not None:
                    candidates = known.columns.given_to(candidates, slice(None))
                candidates = with_scores(release, known.states, known.request, candidates)
                there = clock()
                cast("Ranker", model).predict(known.states[_NAME], known.request, candidates)
                end = clock()
            given.append(end - there)
            computed.append(end - start)
        return given[_WARM_UP:], computed[_WARM_UP:]

    def _release(self, model: AnyRanker, scorers: Sequence[Scorer]) -> Release:
        log, everybody = self._log, [*(scorer.model for scorer in scorers), model]
        _, others = split_by_user(declared_by([one for one in everybody if isinstance(one, ReadsColumns)]))
        counts = np.bincount(log.rows.item, minlength=len(self._catalogue))
        settings = ReleaseSettings(retriever="popular", ranker=_NAME, utility={"any": 1.0})
        release = Release(
            name="timed",
            settings=settings,
            schema=log.schema,
            catalogue=self._catalogue,
            people=self._people,
            contexts=self._contexts,
            retriever=Popular(PopularConfig(), torch.from_numpy(counts)),
            index=None,
            popular=None,
            ranker=model,
            scorers=scorers,
            aggregates=Run.of(others, past_of(others, log, self._catalogue.items.features)) if others else None,
            temperature=None,
            histories=self._store,
            held=np.zeros(0, np.bytes_),
        )
        cover(release, Histories(release, None).assortment)
        return release


_NAME = "timed"

"""Recommendations as a table, for the Python face."""

import time
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path

import polars as pl

from upnext.base.ids import ExternalId
from upnext.base.schema import ITEM_ID, TITLE, USER_ID
from upnext.serving.assortment import Assortment
from upnext.serving.histories import Histories
from upnext.serving.recommend import FOR_YOU, Page, Query, follow_stream, recommend
from upnext.serving.release import Release
from upnext.store.embedded import LmdbStore

__all__ = ["recommendations"]

_USERS_AT_ONCE = 64


def recommendations(
    release: Release,
    live_folder: Path | None,
    user_ids: Sequence[ExternalId],
    k: int,
    context: Mapping[str, str | float] | None = None,
    unfamiliar: bool = False,
) -> pl.DataFrame:
    """What a server would answer now in the row *For you*, as a table: a row per user and item, best first.

    Args:     live_folder: the store of what was posted; it need not be there. context, unfamiliar: as of a `Query`.
    """
    # A copy of the retriever: what was posted is counted once per call, however often a release is asked.
    retriever = copy(release.retriever)
    ranker = retriever if release.ranker is release.retriever else release.ranker
    alone = replace(release, retriever=retriever, ranker=ranker, popular=None)
    live = LmdbStore(live_folder) if live_folder is not None and live_folder.is_dir() else None
    try:
        histories = Histories(alone, live)
        follow_stream(alone, histories, histories.new_events())
        now = time.time_ns() // 1_000_000
        queries = [Query(user, now, k, context, unfamiliar) for user in user_ids]
        rows = [
            row
            for begin in range(0, len(queries), _USERS_AT_ONCE)
            for page in recommend(alone, histories, queries[begin : begin + _USERS_AT_ONCE])
            for row in _for_you(histories.assortment, page)
        ]
    finally:
        if live is not None:
            live.close()
    schema = {
        USER_ID: pl.Int64() if release.users.is_integer else pl.String(),
        "rank": pl.Int64(),
        ITEM_ID: pl.Int64() if release.catalogue.vocabulary.is_integer else pl.String(),
        TITLE: pl.String(),
        "score": pl.Float64(),
        "is_known": pl.Boolean(),
    }
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame if TITLE in release.catalogue.table.column_names else frame.drop(TITLE)


def _for_you(assortment: Assortment, page: Page) -> Iterator[tuple[ExternalId, int, ExternalId, str, float, bool]]:
    for row in page.rows:
        if row.name == FOR_YOU:
            for rank, (item, score) in enumerate(zip(row.items, row.scores, strict=True), 1):
                shown = assortment.describe(item)
                yield page.user_id, rank, shown[ITEM_ID], shown[TITLE], score, page.is_known

"""Recommendations as a table, for the Python face."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from upnext.base.ids import ExternalId
from upnext.base.schema import ITEM_ID, TITLE, USER_ID
from upnext.serving.histories import Histories
from upnext.serving.recommend import FOR_YOU, Page, Query, follow_stream, recommend
from upnext.serving.release import Release
from upnext.store.embedded import LmdbStore

__all__ = ["recommendations"]

_USERS_AT_ONCE = 64


def recommendations(release: Release, live_folder: Path | None, user_ids: Sequence[ExternalId], k: int) -> pl.DataFrame:
    """What a server would answer now in the row *For you*, as a table: a row per user and item, best first.

    Args:     live_folder: the store of what was posted; it need not be there.
    """
    rows: list[tuple[ExternalId, int, ExternalId, str, float, bool]] = []
    alone = replace(release, popular=None)
    for begin in range(0, len(user_ids), _USERS_AT_ONCE):
        for page in _answer(alone, live_folder, user_ids[begin : begin + _USERS_AT_ONCE], k):
            best = [
                pair for row in page.rows if row.name == FOR_YOU for pair in zip(row.items, row.scores, strict=True)
            ]
            for rank, (item, score) in enumerate(best, 1):
                shown = release.catalogue.describe(item)
                rows.append((page.user_id, rank, shown[ITEM_ID], shown[TITLE], score, page.is_known))
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


def _answer(release: Release, live_folder: Path | None, user_ids: Sequence[ExternalId], k: int) -> list[Page]:
    """The pages that a server would answer now."""
    live = LmdbStore(live_folder) if live_folder is not None and live_folder.is_dir() else None
    try:
        histories = Histories(release, live)
        if release.popular is not None:
            follow_stream(release, histories, histories.posted())
        now = time.time_ns() // 1_000_000
        return recommend(release, histories, [Query(user, now, k) for user in user_ids])
    finally:
        if live is not None:
            live.close()

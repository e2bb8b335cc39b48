"""A release from Python: what recommends."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from upnext.base.artifacts import Workspace
from upnext.base.errors import BadRequest
from upnext.base.ids import ExternalId
from upnext.commands.table import recommendations
from upnext.serving.intake import check_context, check_user
from upnext.serving.release import Release
from upnext.store.embedded import LmdbStore

__all__ = ["Recommender", "load"]


class Recommender:
    """A release, opened: it recommends what a server of that release would. `load` makes one.

    Args:     folder: the release; live: the store of events that were posted since, if there is one.
    Raises:   BadArtifact: the folder holds no release, or a file of it was changed.
    """

    def __init__(self, folder: Path, live: Path | None = None) -> None:
        release = Release.load(folder)
        release.histories.close()  # opened anew for each answer: a process may open a store only once
        self._release, self._folder, self._live = release, folder, live

    def __repr__(self) -> str:
        return (
            f"<Recommender: {self._release.settings.retriever}, {len(self._release.catalogue.vocabulary.ids):,} items>"
        )

    def recommend(
        self,
        users: Iterable[ExternalId],
        k: int = 10,
        *,
        context: Mapping[str, str | float] | None = None,
        unfamiliar: bool = False,
    ) -> pl.DataFrame:
        """Recommend items to users, from what each did up to now: the row *For you* of their page.

        Args:     users: ids as the log has them, integers or text: a list, a Polars column, a NumPy array.
                  k: the most items for each; fewer where no more may be shown. context: of the request, by the names
                  of the log's contexts, for models that read it. unfamiliar: only items that the user never met.
        Returns:  `user_id`, `rank` (from 1), `item_id`, `title` (if the log has titles), `score` and `is_known`; users
                  in the order asked, each best first. `is_known` is false for a user of whom nothing is known yet:
                  the rows are then what the model expects of a new visitor. Without users, a frame without rows.
        Raises:   BadRequest: an id of another type than the log's, a `k` below 1, or an unknown context.
        """
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise BadRequest(f"k is {k!r}; allowed: a whole number from 1")
        ids = _user_ids(users, self._release.users.is_integer)
        checked = check_context(context or {}, self._release.schema.contexts, "context")
        store = LmdbStore(self._folder / "histories", is_read_only=True)
        try:
            release = replace(self._release, histories=store)
            most = min(int(k), len(release.catalogue))  # room is made for so many
            return recommendations(release, self._live, ids, most, checked, unfamiliar)
        finally:
            store.close()


def load(folder: str | os.PathLike[str]) -> Recommender:
    """Open a saved model, a release, or the current release of a workspace.

    Args:     folder: what `save` or `upnext publish` wrote, or a workspace such as `runs/demo`, whose posted events
              then count too.
    Returns:  what recommends.
    Raises:   BadArtifact: there is no release, or a file of it was changed.
    """
    root = Path(folder)
    if (root / "current").is_dir():
        return Recommender(Workspace(root).current("release", "release", verify=False).folder, root / "live")
    return Recommender(root)


def _user_ids(users: Iterable[ExternalId], is_integer: bool) -> list[ExternalId]:
    """Ids from outside as Python's own, all of the log's type."""
    if isinstance(users, str | int) or not isinstance(users, Iterable):
        raise BadRequest(f"users is {users!r}; give a list of ids: [{users!r}]")
    wanted, called = (int, "integers") if is_integer else (str, "text")
    ids: list[ExternalId] = []
    for number, user in enumerate(users):
        plain: Any = user.item() if isinstance(user, np.generic) else user
        if not isinstance(plain, wanted) or isinstance(plain, bool):
            raise BadRequest(f"users[{number}] is {plain!r}; allowed: {called}, as the log's user ids are")
        ids.append(check_user(plain, f"users[{number}]"))
    return ids

"""The assortment: what can be shown now. A release's catalogue, and what was changed since the release was made.

An item that the release does not know gets a dense id behind those of its catalogue: models that cannot score it never
see that number. Shape letters: V catalogue, W all items: those of the catalogue, then the new ones.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from upnext.base.batches import ItemTable
from upnext.base.errors import NotFound
from upnext.base.ids import FIRST, UNKNOWN, ExternalId
from upnext.base.protocols import Index, VectorRetriever
from upnext.base.schema import COLLECTION, GENRES, ITEM_ID, TITLE
from upnext.base.selection import Parts
from upnext.index.exact import ExactIndex
from upnext.models.popularity import Popular, RecentlyPopular
from upnext.serving.filters import blocks
from upnext.serving.popular import PopularOrder
from upnext.serving.records import ItemRecord
from upnext.serving.release import Release
from upnext.serving.titles import TitleIndex

__all__ = ["Assortment"]


class Assortment:
    """A release's catalogue with changes on top. It never changes: a change makes another one.

    Args:     records: by item id.
    """

    def __init__(self, release: Release, records: Mapping[ExternalId, ItemRecord]) -> None:
        self.release = release
        self.records = records
        self._vocabulary = release.catalogue.vocabulary
        known = {one.item_id: self._vocabulary.dense(one.item_id) for one in records.values()}
        unknown = [one for one in records.values() if known[one.item_id] == UNKNOWN]
        self._new = sorted(unknown, key=lambda one: one.number)
        self._dense = {one.item_id: number for number, one in enumerate(self._new, len(release.catalogue))}
        self._in_json: dict[int, bytes] = {}
        self._changed = {known[one.item_id]: one for one in records.values() if known[one.item_id] != UNKNOWN}

    def __len__(self) -> int:
        """The number of dense ids, padding and unknown included."""
        return len(self.release.catalogue) + len(self._new)

    def prepare(self) -> None:
        """Work out now what would else be worked out when it is first asked for."""
        _ = self.rows, self.everything, self.catalogue, self.unscored, self.index, self.popular, self.blocked_on

    def dense(self, item_id: ExternalId) -> int:
        """Number an item; 1 when neither the catalogue nor a change knows it."""
        known = self._vocabulary.dense(item_id)
        return self._dense.get(item_id, UNKNOWN) if known == UNKNOWN and not isinstance(item_id, bool) else known

    def externals(self, dense: NDArray[np.int64]) -> pa.Array:
        """Give back the external ids of many dense ones, all of which are real, as an Arrow array."""
        num_known = len(self.release.catalogue)
        if not len(dense) or dense.max() < num_known:
            return self._vocabulary.externals(dense)
        known = self._vocabulary.externals(np.arange(FIRST, num_known))
        new = pa.array([one.item_id for one in self._new], known.type)
        return pa.concat_arrays([known, new]).take(pa.array(dense - FIRST))

    def record(self, dense: int) -> ItemRecord | None:
        """What was changed about an item, if anything."""
        num_known = len(self.release.catalogue)
        return self._changed.get(dense) if dense < num_known else self._new[dense - num_known]

    def describe(self, dense: int) -> dict[str, Any]:
        """What the page shows of an item: id, title, genres, collection."""
        record = self.record(dense) if self.records else None
        if record is None:
            return self.release.catalogue.describe(dense)
        num_known = len(self.release.catalogue)
        if dense < num_known:
            shown = self.release.catalogue.describe(dense) | self._newer(record, dense)
        else:
            shown = record.columns
        return {
            ITEM_ID: record.item_id,
            TITLE: shown.get(TITLE) or str(record.item_id),
            GENRES: shown.get(GENRES) or [],
            COLLECTION: shown.get(COLLECTION),
        }

    def describe_in_json(self, items: list[int]) -> list[bytes]:
        """What `describe` says of items, as JSON without the closing brace, so that more can follow.

        It is kept: a page shows hundreds of items, and most of them again and again.
        """
        kept = self._in_json
        for dense in items:
            if dense not in kept:
                kept[dense] = msgspec.json.encode(self.describe(dense))[:-1]
        return [kept[dense] for dense in items]

    def columns(self, dense: int) -> dict[str, Any]:
        """Every column of an item: those of the catalogue, and what was set since."""
        record = self.record(dense)
        if dense >= len(self.release.catalogue):
            return dict(self._new[dense - len(self.release.catalogue)].columns)
        columns = self.release.catalogue.columns(dense)
        return columns if record is None else columns | self._newer(record, dense)

    def _newer(self, record: ItemRecord, dense: int) -> dict[str, Any]:
        """What was set and still counts: the catalogue says the same as it did then."""
        current = self.release.catalogue.columns(dense)
        return {name: value for name, value in record.columns.items() if current.get(name) == record.base.get(name)}

    @cached_property
    def is_shown(self) -> NDArray[np.bool_]:
        """(W,) bool: the items that may be shown."""
        shown = np.ones(len(self), np.bool_)
        shown[:FIRST] = False
        shown[[dense for dense, one in self._changed.items() if not one.is_shown]] = False
        shown[len(self.release.catalogue) :] = [one.is_shown for one in self._new]
        return shown & ~self._blocked(None)

    @cached_property
    def blocked_on(self) -> Mapping[str, NDArray[np.int64]]:
        """The dense ids that the rules of a surface block there, by its name."""
        return {surface: np.flatnonzero(self._blocked(surface)) for surface in self.release.settings.surface_filters}

    def blocked_in(self, context: Mapping[str, str | float], num_items: int) -> NDArray[np.int64]:
        """Of the first items by dense id, those that are blocked on the surface that a context names."""
        blocked = self.blocked_on.get(self.release.settings.surface_of(context), np.zeros(0, np.int64))
        return blocked[blocked < num_items]

    def _blocked(self, surface: str | None) -> NDArray[np.bool_]:
        """(W,) bool: the items that the rules of a surface block, or, for None, those of every surface."""
        settings = self.release.settings
        rules = settings.filter if surface is None else settings.surface_filters[surface]
        blocked = np.pad(self.release.blocked[surface], (0, len(self._new)))
        for dense, one in [*self._changed.items(), *enumerate(self._new, len(self.release.catalogue))]:
            blocked[dense] = blocks(rules, one.item_id, self.columns(dense))
        return blocked

    @cached_property
    def can_retrieve(self) -> NDArray[np.bool_]:
        """(W,) bool: the items that the retriever can score."""
        known = self.release.can_retrieve()
        if isinstance(self.release.retriever, VectorRetriever):
            new = self.release.retriever.can_score(self.new_items).numpy()
        else:
            new = np.full(len(self._new), isinstance(self.release.retriever, RecentlyPopular))
        return np.concatenate([known, new])

    @cached_property
    def new_items(self) -> ItemTable:
        """New items as models read them: no number in a model's vocabulary, but a hash and features."""
        return self.release.catalogue.encode_told(
            [one.item_id for one in self._new], [one.columns for one in self._new]
        )

    @property
    def num_scored(self) -> int:
        """How many dense ids the retriever's answers are about: the new items too, if it can score any of them."""
        num_known = len(self.release.catalogue)
        return len(self) if self.can_retrieve[num_known:].any() else num_known

    @cached_property
    def index(self) -> Index | None:
        """The release's index; with the new items behind it, where the retriever has vectors for some."""
        retriever = self.release.retriever
        if not isinstance(retriever, VectorRetriever) or self.num_scored == len(self.release.catalogue):
            return self.release.index
        with torch.inference_mode():
            known, new = (retriever.item_vectors(items) for items in (self.release.catalogue.items, self.new_items))
        return ExactIndex(torch.cat([known, new]).numpy())

    @cached_property
    def rows(self) -> tuple[list[str], Parts]:
        """What the retriever chooses from: everything, then each collection; their names (the first has none)."""
        can = self.is_shown & self.can_retrieve
        of = self._collections()
        names = sorted(of)
        return ["", *names], Parts([np.flatnonzero(can), *(np.flatnonzero(of[name] & can) for name in names)])

    @cached_property
    def everything(self) -> Parts:
        """All that may be shown, whether or not the retriever can score it."""
        return Parts([np.flatnonzero(self.is_shown)])

    @cached_property
    def catalogue(self) -> Parts:
        """Of it, what the release's catalogue holds."""
        return Parts([np.flatnonzero(self.is_shown[: len(self.release.catalogue)])])

    @cached_property
    def popular(self) -> PopularOrder | None:
        """The order of the row "Popular now", where what is shown there is counted."""
        model = self.release.popular
        if isinstance(model, RecentlyPopular):  # it covers new items as well
            return PopularOrder(model, self.everything)
        return PopularOrder(model, self.catalogue) if isinstance(model, Popular) else None

    def _collections(self) -> dict[str, NDArray[np.bool_]]:
        num_known = len(self.release.catalogue)
        of = {name: np.pad(mask, (0, len(self._new))) for name, mask in self.release.catalogue.collections.items()}
        moved = [(dense, one) for dense, one in self._changed.items() if COLLECTION in self._newer(one, dense)]
        for dense, one in [*moved, *enumerate(self._new, num_known)]:
            for mask in of.values():
                mask[dense] = False
            if (name := one.columns.get(COLLECTION)) is not None:
                of.setdefault(name, np.zeros(len(self), np.bool_))[dense] = True
        return of

    def search_titles(self, text: str, limit: int) -> list[int]:
        """Items whose titles hold every word of a text, the best matches first; what was changed comes before others.

        Returns:  dense ids of items that may be shown.
        """
        numbers, titles = self._changed_titles
        changed = [numbers[place] for place in titles.search(text, limit + len(numbers))]
        known = [place + FIRST for place in self.release.titles.search(text, limit + len(self._changed))]
        found = [*changed, *(dense for dense in known if dense not in self._changed)]
        return [dense for dense in found if self.is_shown[dense]][:limit]

    @cached_property
    def _changed_titles(self) -> tuple[list[int], TitleIndex]:
        numbers = [*self._changed, *range(len(self.release.catalogue), len(self))]
        return numbers, TitleIndex([self.describe(dense)[TITLE] for dense in numbers])

    @cached_property
    def unscored(self) -> list[tuple[int, int]]:
        """New items that the retriever cannot score, the latest first: dense id, and when each was added."""
        num_known = len(self.release.catalogue)
        return [
            (dense, self._new[dense - num_known].added_ms)
            for dense in range(len(self) - 1, num_known - 1, -1)
            if self.is_shown[dense] and not self.can_retrieve[dense]
        ]

    def find(self, item_id: ExternalId, shown_id: str) -> int:
        """The dense id of an item.

        Raises:   NotFound: nobody has told of such an item.
        """
        dense = self.dense(item_id)
        if dense == UNKNOWN:
            raise NotFound(f"no item {shown_id} in the catalogue of {len(self) - FIRST:,} items; check its id")
        return dense

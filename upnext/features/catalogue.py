"""The catalogue: every item's external id, hash and side columns, by dense id."""

import contextlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from upnext.base.batches import ItemTable
from upnext.base.errors import BadData
from upnext.base.ids import FIRST, ExternalId, item_hash
from upnext.base.schema import COLLECTION, GENRES, ITEM_ID, TITLE, FeatureKind
from upnext.features.side_features import SideFeatures, load_side_table, save_side_table
from upnext.features.vocabulary import Vocabulary

__all__ = ["Catalogue"]


class Catalogue:
    """Items by dense id. Row i of `table` describes the item with dense id i + 2.

    Args:     table: side columns in the order of the vocabulary, possibly none; `title`, `genres` (lists of
              text) and `collection` have a meaning to the page. features: what models may read.
    """

    def __init__(self, vocabulary: Vocabulary, table: pa.Table, features: SideFeatures | None = None) -> None:
        assert table.num_rows == len(vocabulary) - FIRST
        self.vocabulary = vocabulary
        self.table = table
        self.features = features or SideFeatures.none()

    def __len__(self) -> int:
        """The number of dense ids, padding and unknown included."""
        return len(self.vocabulary)

    @cached_property
    def item_hash(self) -> NDArray[np.int64]:
        """(V,) int64 by dense id; 0 for padding and unknown."""
        return np.concatenate([np.zeros(FIRST, np.int64), item_hash(self.vocabulary.ids)])

    @cached_property
    def items(self) -> ItemTable:
        """All items as models read them, row i being dense id i."""
        return ItemTable(torch.arange(len(self)), torch.from_numpy(self.item_hash), self.features.columns)

    def encode_rows(self, ids: Sequence[ExternalId], rows: Sequence[Mapping[str, Any]]) -> ItemTable:
        """Items as models read them, from raw rows: they may be outside the vocabulary, with the dense id 1.

        Args:     rows: an item's features by name, as `Encoder.encode_rows` takes them.
        Raises:   BadData: the row, the feature, the value, what is allowed.
        """
        dense = torch.from_numpy(self.vocabulary.encode(list(ids)))
        return ItemTable(dense, torch.from_numpy(item_hash(ids)), self.features.encoder.encode_rows(rows))

    def encode_told(self, ids: Sequence[ExternalId], rows: Sequence[Mapping[str, Any]]) -> ItemTable:
        """The same of rows that were told of under another catalogue: of a feature that does not fit this one nothing
        is observed."""
        try:
            return self.encode_rows(ids, rows)
        except BadData:
            return self.encode_rows(ids, [self._fitting(row) for row in rows])

    def _fitting(self, row: Mapping[str, Any]) -> dict[str, Any]:
        fitting = {}
        for name, value in row.items():
            with contextlib.suppress(BadData):
                self.features.encoder.encode_rows([{name: value}])
                fitting[name] = value
        return fitting

    def fitted(self, kinds: Mapping[str, FeatureKind], trained: NDArray[np.bool_]) -> "Catalogue":
        """Add features; `trained` is (V,) bool by dense id: which items have an event in the training part."""
        return Catalogue(self.vocabulary, self.table, SideFeatures.fit(kinds, self.table, trained))

    @cached_property
    def collections(self) -> dict[str, NDArray[np.bool_]]:
        """Per collection, in alphabetical order, which dense ids belong to it: (V,) bool."""
        if COLLECTION not in self.table.column_names:
            return {}
        column = np.array(self.table.column(COLLECTION).to_pylist(), dtype=object)
        names = sorted({name for name in column if name is not None})
        return {name: np.concatenate([np.zeros(FIRST, bool), column == name]) for name in names}

    def title(self, dense: int) -> str:
        """The item's title, or its external id where it has none."""
        external = str(self.vocabulary.external(dense))
        if TITLE not in self.table.column_names:
            return external
        return self.table.column(TITLE)[dense - FIRST].as_py() or external

    def describe(self, dense: int) -> dict[str, Any]:
        """What the page shows of an item: id, title, genres, collection."""
        external = self.vocabulary.external(dense)
        return {ITEM_ID: external, **self._shown[dense - FIRST]}

    def columns(self, dense: int) -> dict[str, Any]:
        """Every side column of an item, by name."""
        row: dict[str, Any] = self.table.slice(dense - FIRST, 1).to_pylist()[0]
        return row

    def save(self, folder: Path) -> None:
        """Write `items.vocabulary.arrow`, `items.arrow` and `item_features.safetensors` into a folder."""
        save_side_table(folder, "item", self.vocabulary, self.table, self.features)

    @classmethod
    def load(cls, folder: Path) -> "Catalogue":
        """Read what `save` wrote.

        Raises:   BadArtifact: a file is missing or damaged.
        """
        return cls(*load_side_table(folder, "item"))

    @cached_property
    def _shown(self) -> list[dict[str, Any]]:
        """What is said of each item beside its id: worked out once, because a page asks for hundreds."""
        names = [name for name in (TITLE, GENRES, COLLECTION) if name in self.table.column_names]
        rows = self.table.select(names).to_pylist() if names else [{}] * (len(self) - FIRST)
        return [
            {TITLE: row.get(TITLE) or str(external), GENRES: row.get(GENRES) or [], COLLECTION: row.get(COLLECTION)}
            for row, external in zip(rows, self.vocabulary.places, strict=True)
        ]

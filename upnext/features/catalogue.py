"""The catalogue: every item's external id, hash and side columns, by dense id."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from upnext.base.batches import ItemTable
from upnext.base.errors import BadArtifact
from upnext.base.ids import FIRST, item_hash
from upnext.base.schema import COLLECTION, GENRES, ITEM_ID, TITLE
from upnext.features.vocabulary import Vocabulary

__all__ = ["Catalogue"]


class Catalogue:
    """Items by dense id. Row i of `table` describes the item with dense id i + 2.

    Args:     table: side columns in the order of the vocabulary, possibly none; `title`, `genres` (lists of
              text) and `collection` have a meaning to the page.
    """

    def __init__(self, vocabulary: Vocabulary, table: pa.Table) -> None:
        assert table.num_rows == len(vocabulary) - FIRST
        self.vocabulary = vocabulary
        self.table = table

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
        return ItemTable(torch.arange(len(self)), torch.from_numpy(self.item_hash))

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
        row = self._shown[dense - FIRST]
        return {
            ITEM_ID: external,
            TITLE: row.get(TITLE) or str(external),
            GENRES: row.get(GENRES) or [],
            COLLECTION: row.get(COLLECTION),
        }

    def columns(self, dense: int) -> dict[str, Any]:
        """Every side column of an item, by name."""
        row: dict[str, Any] = self.table.slice(dense - FIRST, 1).to_pylist()[0]
        return row

    def save(self, folder: Path) -> None:
        """Write `items.vocabulary.arrow` and `items.arrow` into a folder."""
        self.vocabulary.save(folder / "items.vocabulary.arrow")
        with pa.OSFile(str(folder / "items.arrow"), "wb") as sink, pa.ipc.new_file(sink, self.table.schema) as file:
            file.write_table(self.table)

    @classmethod
    def load(cls, folder: Path) -> "Catalogue":
        """Read what `save` wrote.

        Raises:   BadArtifact: a file is missing or damaged.
        """
        vocabulary = Vocabulary.load(folder / "items.vocabulary.arrow")
        try:
            table = pa.ipc.open_file(pa.memory_map(str(folder / "items.arrow"))).read_all()
        except (OSError, pa.ArrowInvalid) as error:
            raise BadArtifact(f"{folder / 'items.arrow'} is no item table ({error}); run prepare again") from None
        if table.num_rows != len(vocabulary) - FIRST:
            raise BadArtifact(
                f"{folder / 'items.arrow'} has {table.num_rows} rows, its vocabulary {len(vocabulary) - FIRST} items;"
                " run prepare again"
            )
        return cls(vocabulary, table)

    @cached_property
    def _shown(self) -> list[dict[str, Any]]:
        names = [name for name in (TITLE, GENRES, COLLECTION) if name in self.table.column_names]
        return self.table.select(names).to_pylist() if names else [{}] * (len(self) - FIRST)

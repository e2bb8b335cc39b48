"""People: every user's external id and side columns, by dense id."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from upnext.base.ids import FIRST, ExternalId
from upnext.base.schema import FeatureKind
from upnext.features.side_features import SideFeatures, load_side_table, save_side_table
from upnext.features.vocabulary import Vocabulary

__all__ = ["People"]


class People:
    """Users by dense id. Row i of `table` describes the user with dense id i + 2.

    Args:     table: side columns in the order of the vocabulary, possibly none; features: what models may read.
    """

    def __init__(self, vocabulary: Vocabulary, table: pa.Table, features: SideFeatures | None = None) -> None:
        assert table.num_rows == len(vocabulary) - FIRST
        self.vocabulary = vocabulary
        self.table = table
        self.features = features or SideFeatures.none()

    def __len__(self) -> int:
        """The number of dense ids, padding and unknown included."""
        return len(self.vocabulary)

    def fitted(self, kinds: Mapping[str, FeatureKind], trained: NDArray[np.bool_]) -> "People":
        """Add features; `trained` is (U,) bool by dense id: who has an event in the training part."""
        return People(self.vocabulary, self.table, SideFeatures.fit(kinds, self.table, trained))

    def without(self, ids: Iterable[ExternalId]) -> "People":
        """Take users out: neither their ids nor what was known of them stays, and no other number changes."""
        left = self.vocabulary.without(ids)
        is_there = torch.zeros(len(left), dtype=torch.bool)
        is_there[left.dense_ids] = True
        rows = np.arange(len(left) - FIRST)
        table = self.table.take(pa.array(rows, mask=~is_there.numpy()[FIRST:]))
        return People(left, table, self.features.where(is_there))

    def save(self, folder: Path) -> None:
        """Write `users.vocabulary.arrow`, `users.arrow` and `user_features.safetensors` into a folder."""
        save_side_table(folder, "user", self.vocabulary, self.table, self.features)

    @classmethod
    def load(cls, folder: Path) -> "People":
        """Read what `save` wrote.

        Raises:   BadArtifact: a file is missing or damaged.
        """
        return cls(*load_side_table(folder, "user"))

"""Side features: what models may read of every item, or of every user, by dense id; saved and loaded."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from upnext.base.batches import Column
from upnext.base.errors import BadArtifact
from upnext.base.ids import FIRST
from upnext.base.schema import FeatureKind
from upnext.features.encoding import Encoder
from upnext.features.vocabulary import Vocabulary

__all__ = ["SideFeatures", "load_side_table", "save_side_table"]


@dataclass(frozen=True)
class SideFeatures:
    """Features by dense id: row i of each column is dense id i; padding and unknown are unobserved.

    `encoder` encodes rows outside the vocabulary as these were.
    """

    encoder: Encoder
    columns: Mapping[str, Column]

    @classmethod
    def none(cls) -> "SideFeatures":
        """A table without features."""
        return cls(Encoder({}), {})

    @classmethod
    def fit(cls, kinds: Mapping[str, FeatureKind], table: pa.Table, trained: NDArray[np.bool_]) -> "SideFeatures":
        """Fit an encoder on the rows that are trained, and encode all.

        Args:     table: row i describes dense id i + 2; trained: (V,) bool by dense id.
        """
        encoder = Encoder.fit(kinds, table, trained[FIRST:])
        encoded = encoder.encode(table)
        return cls(encoder, {name: _shifted(column) for name, column in encoded.items()})

    def take(self, dense: Tensor) -> dict[str, Column]:
        """The features of some dense ids, repeats allowed."""
        return {name: column.take(dense) for name, column in self.columns.items()}

    def where(self, kept: Tensor) -> "SideFeatures":
        """Keep the rows that a mask (V,) marks; of the others nothing is observed."""

        def cleared(column: Column) -> Column:
            values, observed = column.values.clone(), column.observed.clone()
            values[~kept], observed[~kept] = 0, False
            return Column(values, observed)

        return SideFeatures(self.encoder, {name: cleared(column) for name, column in self.columns.items()})

    def save(self, path: Path) -> None:
        """Write one safetensors file: values, masks, boundaries; kinds and widths in its header."""
        encoder = self.encoder
        tensors = {f"{name}.bounds": torch.from_numpy(bounds) for name, bounds in encoder.bounds.items()}
        for name, column in self.columns.items():
            tensors |= {f"{name}.values": column.values.contiguous(), f"{name}.observed": column.observed.contiguous()}
        header = json.dumps({"kinds": dict(encoder.kinds), "widths": dict(encoder.widths)})
        save_file(tensors, path, metadata={"encoder": header})

    @classmethod
    def load(cls, path: Path) -> "SideFeatures":
        """Read what `save` wrote.

        Raises:   BadArtifact: the file is missing or damaged.
        """
        try:
            with safe_open(path, "pt") as file:
                header = json.loads(file.metadata()["encoder"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            kinds, widths = header["kinds"], header["widths"]
            bounds = {name: tensors[f"{name}.bounds"].numpy() for name in kinds if f"{name}.bounds" in tensors}
            columns = {name: Column(tensors[f"{name}.values"], tensors[f"{name}.observed"]) for name in kinds}
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise BadArtifact(f"{path} holds no features ({error}); run prepare again") from None
        return cls(Encoder(kinds, bounds, widths), columns)


def _shifted(column: Column) -> Column:
    """Put the rows of padding and unknown in front."""
    values, observed = (
        torch.cat([part.new_zeros(FIRST, *part.shape[1:]), part]) for part in (column.values, column.observed)
    )
    return Column(values, observed)


def save_side_table(folder: Path, owner: str, vocabulary: Vocabulary, table: pa.Table, features: SideFeatures) -> None:
    """Write `items.vocabulary.arrow`, `items.arrow` and `item_features.safetensors`, for the owner "item" or "user"."""
    vocabulary.save(folder / f"{owner}s.vocabulary.arrow")
    with pa.OSFile(str(folder / f"{owner}s.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)
    features.save(folder / f"{owner}_features.safetensors")


def load_side_table(folder: Path, owner: str) -> tuple[Vocabulary, pa.Table, SideFeatures]:
    """Read what `save_side_table` wrote.

    Raises:   BadArtifact: a file is missing, damaged, or of another table.
    """
    vocabulary = Vocabulary.load(folder / f"{owner}s.vocabulary.arrow")
    path = folder / f"{owner}s.arrow"
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise BadArtifact(f"{path} is no {owner} table ({error}); run prepare again") from None
    count = len(vocabulary) - FIRST
    if table.num_rows != count:
        raise BadArtifact(f"{path} has {table.num_rows} rows, its vocabulary {count} {owner}s; run prepare again")
    path = folder / f"{owner}_features.safetensors"
    features = SideFeatures.load(path)
    rows = {len(column.values) for column in features.columns.values()}
    if rows - {len(vocabulary)}:
        raise BadArtifact(f"{path} has {max(rows)} rows, its vocabulary {len(vocabulary)} numbers; run prepare again")
    return vocabulary, table, features

"""What a log offers to a neural ranker, and what such a ranker puts out."""

from collections.abc import Mapping

from torch import Tensor

from upnext.base.batches import Candidates, Column, ItemTable
from upnext.base.configuration import Config
from upnext.base.errors import BadBatch
from upnext.base.ids import FIRST
from upnext.base.protocols import LINKS, Link
from upnext.base.schema import FeatureKind, FeedbackKind, vector_columns
from upnext.models.boosted_config import UTILITY
from upnext.nn.encoders import LOOKED_UP, Inputs, UserEncoder

__all__ = ["RankerInputs", "known_values", "looked_up_names"]

_ITEM = "item"


class RankerInputs(Config):
    """What a log offers to a ranker; saved with it."""

    events: Inputs
    user_features: dict[str, FeatureKind] = {}
    user_vector_widths: dict[str, int] = {}
    numbers: list[str] = []
    """Of what candidates bring, the features that are read as numbers: aggregates, and what other models say of a
    candidate."""
    vectors: dict[str, int] = {}
    """The models whose vectors candidates bring, with the width of these."""
    predicted: dict[str, FeedbackKind]
    """The feedback that it foresees."""
    orders: bool = False
    """What it puts out only orders: what it says of drawn candidates, or, where it foresees nothing, `utility`."""

    @property
    def reads(self) -> list[str]:
        """The columns of candidates that it reads."""
        return [*self.numbers, *(column for name in self.vectors for column in vector_columns(name))]

    def check(self, candidates: Candidates) -> None:
        """Check that candidates have what is read of them.

        Raises:   BadBatch: they lack a column.
        """
        for name in self.reads:
            if name not in candidates.features:
                raise BadBatch(f"the ranker reads {name!r}; the candidates have {sorted(candidates.features)}")

    @property
    def components(self) -> dict[str, Link]:
        """What it puts out, with the link of each."""
        if self.orders:
            return dict.fromkeys(self.predicted or [UTILITY], Link.ORDER_ONLY)
        return {name: LINKS[kind] for name, kind in self.predicted.items()}


def known_values(inputs: RankerInputs, items: ItemTable, users: Mapping[str, Column]) -> dict[str, Tensor]:
    """The values of everything that is looked up, as plain embeddings know them.

    Args:     items, users: what is known of all of them.
    """
    item_columns = dict(items.features) | {_ITEM: Column(items.item_hash, items.item >= FIRST)}
    columns = item_columns | {UserEncoder.known_as(name): column for name, column in users.items()}
    return {name: columns[name].values[columns[name].observed] for name in looked_up_names(inputs)}


def looked_up_names(inputs: RankerInputs) -> list[str]:
    """What embeddings are asked for: the item, and features of items and users that are looked up."""
    of_items = [name for name, kind in inputs.events.item_features.items() if kind in LOOKED_UP]
    of_users = [UserEncoder.known_as(name) for name, kind in inputs.user_features.items() if kind in LOOKED_UP]
    return [_ITEM, *of_items, *of_users]

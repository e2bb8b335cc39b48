"""Filters: what a release shows nobody, on every surface or on one, and what it shows a user no more.

Shape letters: V catalogue, N events, B users.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from upnext.base.configuration import Config
from upnext.base.errors import BadConfig
from upnext.base.ids import FIRST, UNKNOWN, ExternalId
from upnext.features.catalogue import Catalogue

__all__ = ["FilterConfig", "blocked_by", "blocks", "check_filter", "shown_in_vain"]

_SOME = 10
"""So many values are named in an error."""


class FilterConfig(Config):
    """What is not shown, besides what a user chose before or said no to."""

    items: list[ExternalId] = []
    """Items that nobody is shown, by id."""
    values: dict[str, list[str | float]] = {}
    """Items that nobody is shown, by a column of the item table and its values: `{ genres = ["Horror"] }`. Where the
    column holds lists, one such value is enough."""
    most_shown: Annotated[int, Field(ge=1)] | None = None
    """After so many events of a user with an item, none of which counts as chosen, the user is not shown it again."""

    @model_validator(mode="after")
    def _columns_have_values(self) -> Self:
        for name, values in self.values.items():
            if not values:
                raise ValueError(f"values.{name} = [] blocks nothing: name values, or remove it")
        return self


def blocks(rules: FilterConfig, item_id: ExternalId, columns: Mapping[str, Any]) -> bool:
    """Whether nobody is shown an item, by its id and its columns."""
    if item_id in rules.items:
        return True
    return any(_holds(columns.get(name), values) for name, values in rules.values.items())


def blocked_by(rules: FilterConfig, catalogue: Catalogue) -> NDArray[np.bool_]:
    """Which items nobody is shown: (V,) bool by dense id."""
    blocked = np.zeros(len(catalogue), np.bool_)
    dense = catalogue.vocabulary.encode(list(rules.items))
    blocked[dense[dense != UNKNOWN]] = True
    for name, values in rules.values.items():
        if name in catalogue.table.column_names:
            blocked[FIRST:] |= [_holds(value, values) for value in catalogue.table.column(name).to_pylist()]
    return blocked


def _holds(value: Any, values: Sequence[str | float]) -> bool:
    return any(one in values for one in value) if isinstance(value, list) else value in values


def shown_in_vain(
    user: NDArray[np.int64], item: NDArray[np.int64], is_chosen: NDArray[np.bool_], most: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which events have an item that their user met too often without choosing it: (N,) bool.

    Args:     user, item, is_chosen: (N,) of the events; most: (B,) how many events are too many, by number of the user.
    """
    _, of = np.unique(np.stack([user, item]), axis=1, return_inverse=True)
    of = of.reshape(-1)
    count, chosen = np.bincount(of, minlength=1), np.bincount(of, is_chosen, minlength=1)
    in_vain: NDArray[np.bool_] = (count[of] >= most[user]) & (chosen[of] == 0)
    return in_vain


def check_filter(rules: FilterConfig, catalogue: Catalogue, where: str) -> None:
    """Check that rules name items and values that there are: a slip would show what is to be blocked.

    Args:     where: the table of the configuration, such as `publish.filter`.
    Raises:   BadConfig: an id, a column or a value that the catalogue does not have.
    """
    for item_id in rules.items:
        if catalogue.vocabulary.dense(item_id) == UNKNOWN:
            kinds = {type(one).__name__ for one in catalogue.vocabulary.places}
            raise BadConfig(
                f"{where}.items names {item_id!r}, and no item of the catalogue has this id; its ids are of the type"
                f" {' or '.join(sorted(kinds))}: mend the id, or remove it"
            )
    table = catalogue.table
    for name, values in rules.values.items():
        if name not in table.column_names:
            raise BadConfig(
                f"{where}.values names the column {name!r}; the items have {sorted(table.column_names)}: choose one, or"
                " declare it in prepare.source.items"
            )
        found = table.column(name).to_pylist()
        known = {one for value in found for one in (value if isinstance(value, list) else [value]) if one is not None}
        for value in values:
            if value not in known:
                some = ", ".join(repr(one) for one in sorted(known, key=str)[:_SOME])
                more = f" and {len(known) - _SOME:,} others" if len(known) > _SOME else ""
                raise BadConfig(
                    f"{where}.values.{name} names {value!r}, which no item has; there are {some}{more}: mend the value,"
                    " or remove it"
                )

"""Rank: what the retriever chose, in the order of the utility that is expected of it.

    utility(i) = sum_k w_k E[f_k | history, context, i]

The weights w belong to the surface that asks; an output that only orders stands alone.
Shape letters: B queries, R rows of a page, C candidates of a row.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upnext.base.batches import Candidates, Request
from upnext.base.ids import FIRST, PADDING
from upnext.base.protocols import Link, Ranker, expectation
from upnext.serving.assortment import Assortment
from upnext.serving.chain import States, cover, predict, take
from upnext.serving.columns import Columns
from upnext.serving.release import Release, ReleaseSettings

__all__ = ["Best", "by_utility", "candidates_of", "num_candidates"]

Best: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float32]]
"""The best items of B users, (B, k), and their scores."""

_CANDIDATES = 1 << 13
"""So many are ranked at a time."""


def num_candidates(settings: ReleaseSettings, k: int) -> int:
    """How many items of a row are retrieved where it is to show k.

    Three times k at least: of a collection the rows "For you" and "Popular now" may take k items each, and other
    collections none.
    """
    return 3 * k if settings.ranker is None else max(settings.num_candidates, 3 * k)


def by_utility(
    release: Release,
    assortment: Assortment,
    states: States,
    request: Request,
    contexts: Sequence[Mapping[str, str | float]],
    best: Sequence[Best],
    counts: NDArray[np.int64],
    columns: Columns | None = None,
) -> list[Best]:
    """Order the items of each row by expected utility, ties by the lower id.

    Args:     states: of all that have a say. contexts: of each query: they name its surface. best: a row's candidates
              (B, C). counts: (B,) how many of a row's candidates each query considers: the first ones. columns: what
              rankers read of candidates beside them, if they read any.
    Returns:  the same items, -1 where there is none, with their utilities.
    """
    C = best[0][0].shape[1]
    is_asked = np.arange(C) < counts[:, None]
    items = np.concatenate([np.where(is_asked & (found >= FIRST), found, -1) for found, _ in best], axis=1)
    weights = _weights(release.settings, contexts)
    cover(release, assortment)
    each, place = _once(items)  # what is a candidate of two rows is asked about once
    step = max(1, _CANDIDATES // max(1, each.shape[1]))
    values = np.empty(each.shape, np.float32)
    for begin in range(0, len(each), step):
        rows = torch.arange(begin, min(begin + step, len(each)))
        some = slice(begin, begin + step)
        candidates = candidates_of(assortment, torch.from_numpy(each[some]))
        if columns is not None:
            candidates = columns.given_to(candidates, some)
        outputs = predict(release, take(states, rows), request.take(rows), candidates)
        asked = {name: of[some] for name, of in weights.items()}
        values[some] = expected_utility(cast("Ranker", release.ranker).components, outputs, asked).numpy()
    utility = np.where(items < 0, -np.inf, np.take_along_axis(values, place, 1)).astype(np.float32)
    return [_sorted(items[:, row : row + C], utility[:, row : row + C]) for row in range(0, items.shape[1], C)]


def _once(items: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The different items of each row (B, U), -1 behind them, and where among them each item stands (B, N)."""
    order = np.argsort(items, axis=1, kind="stable")
    rising = np.take_along_axis(items, order, 1)
    is_new = (rising >= 0) & (np.diff(rising, axis=1, prepend=-1) != 0)
    number = np.maximum(np.cumsum(is_new, axis=1) - 1, 0)
    each = np.full((len(items), max(1, int(is_new.sum(1).max(initial=0)))), -1)
    each[np.nonzero(is_new)[0], number[is_new]] = rising[is_new]
    place = np.empty_like(items)
    np.put_along_axis(place, order, number, 1)
    return each, place


def expected_utility(links: Mapping[str, Link], outputs: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Tensor:
    """sum_k w_k E[f_k | history, context, item]: (B, C) float32.

    Args:     outputs: (B, C) raw, per component. weights: (B,) per component, one at least; one that only orders
              stands alone.
    """
    worth = [weight[:, None] * expectation(outputs[name], links[name]) for name, weight in weights.items()]
    return torch.stack(worth).sum(0)


def _weights(settings: ReleaseSettings, contexts: Sequence[Mapping[str, str | float]]) -> dict[str, Tensor]:
    """Each component's weight for each query: that of its surface, else that of every surface; or one order alone."""
    if settings.order is not None:
        return {settings.order: torch.ones(len(contexts))}
    chosen = [settings.surfaces.get(settings.surface_of(context), settings.utility) for context in contexts]
    names = sorted({name for weights in chosen for name in weights})
    return {name: torch.tensor([weights.get(name, 0.0) for weights in chosen]) for name in names}


def candidates_of(assortment: Assortment, items: Tensor) -> Candidates:
    """Items as a ranker reads them; a negative one is masked. New ones bring their features."""
    mask = items >= FIRST
    items = torch.where(mask, items, PADDING)
    num_known = len(assortment.release.catalogue)
    if not bool((items >= num_known).any()):
        return Candidates(items, assortment.release.catalogue.items.item_hash[items], mask)
    hashes = torch.cat([assortment.release.catalogue.items.item_hash, assortment.new_items.item_hash])
    new = assortment.new_items.take((items - num_known).clamp(min=0))
    return Candidates(items, hashes[items], mask, new.features)


def _sorted(items: NDArray[np.int64], utility: NDArray[np.float32]) -> Best:
    order = np.lexsort((items, -utility), axis=1)
    return np.take_along_axis(items, order, 1), np.take_along_axis(utility, order, 1)

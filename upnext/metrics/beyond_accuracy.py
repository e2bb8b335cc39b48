"""What lists of recommendations do to the catalogue: how much of it they show, how popular, how evenly.

C cases (one list each), k length of a list, V catalogue size. Lists hold columns, and -1 where they run
out, as `ranking.top_k` makes them. These figures describe; larger is not always better.
"""

import numpy as np
from jaxtyping import Float, Int

from upnext.base.errors import BadBatch

__all__ = ["coverage", "gini", "popularity_bias", "popularity_rank", "shares_by_popularity"]


def coverage(top: Int[np.ndarray, "C k"], catalogue_size: int) -> float:
    """Catalogue coverage: the share of the catalogue that is in at least one list.

    The lists (0, 1) and (1, -1) over a catalogue of 4 items cover 2/4.

    Args:     top: (C, k) int64 columns; -1 is nothing.
              catalogue_size: how many items could be listed (without padding and unknown).
    Returns:  a share in [0, 1]; 0 without recommendations, NaN for an empty catalogue.
    Raises:   BadBatch: more distinct items in the lists than in the catalogue.
    Source:   Ge, Delgado-Battenfeld and Jannach (2010), catalogue coverage.
    """
    num_shown = len(_exposure(top, catalogue_size))
    return num_shown / catalogue_size if catalogue_size else float("nan")


def popularity_bias(top: Int[np.ndarray, "C k"], popularity: Float[np.ndarray, " V"] | Int[np.ndarray, " V"]) -> float:
    """Average recommendation popularity (ARP): mean over lists of the mean popularity of the list's items.

    With popularity 10, 4, 1 the lists (0, 1) and (2, -1) have means 7 and 1, so ARP is 4.

    Args:     top: (C, k) int64 columns; -1 is nothing, and a list of nothing is left out.
              popularity: (V,) how often each column occurs in the training part: counts, or shares of it to
                  compare data sets.
    Returns:  a mean in the unit of popularity; NaN without recommendations.
    Raises:   BadBatch: a column outside popularity.
    Source:   Yin et al. (2012), Challenging the Long Tail Recommendation; the name is from Abdollahpouri et
              al. (2019).
    """
    _listed(top, popularity)
    is_item = top >= 0
    lengths = is_item.sum(axis=1)
    if not lengths.any():
        return float("nan")
    totals = np.where(is_item, popularity[np.where(is_item, top, 0)], 0).sum(axis=1)
    return float(np.mean(totals[lengths > 0] / lengths[lengths > 0]))


def gini(top: Int[np.ndarray, "C k"], catalogue_size: int) -> float:
    """Gini index of exposure: 0 where every item is listed equally often, 1 where one item has every place.

    G = 1/(V - 1) · sum over j = 1 … V of (2j - V - 1) p(j), where p(1) ≤ … ≤ p(V) are the items' shares of
    all places. Shares 0, 0, 1/4, 3/4 have G = (1 · 1/4 + 3 · 3/4) / 3 = 5/6.

    Args:     top: (C, k) int64 columns; -1 is nothing.
              catalogue_size: V, how many items could be listed; those never listed count with share 0.
    Returns:  an index in [0, 1]; NaN without recommendations or with fewer than two items to choose from.
    Raises:   BadBatch: more distinct items in the lists than in the catalogue.
    Source:   Shani and Gunawardana (2011), Evaluating Recommendation Systems, item space coverage.
    """
    exposure = np.sort(_exposure(top, catalogue_size))
    if len(exposure) == 0 or catalogue_size < 2:
        return float("nan")
    place = np.arange(catalogue_size - len(exposure) + 1, catalogue_size + 1)  # items never listed come first
    weights = 2 * place - catalogue_size - 1
    return float(weights @ exposure / (exposure.sum() * (catalogue_size - 1)))


def popularity_rank(top: Int[np.ndarray, "C k"], popularity: Int[np.ndarray, " V"]) -> float:
    """Average popularity rank: the mean over all places of the item's rank in popularity, 1 for the most popular.

    Popularity 10, 4, 4 gives ranks 1, 2.5, 2.5 (ties share their average), and the lists (0, 1) and (2, -1) the
    mean (1 + 2.5 + 2.5) / 3 = 2. Larger is further from the hits.

    Args:     top: (C, k) int64 columns; -1 is nothing.  popularity: (V,) training events of each column.
    Returns:  a mean from 1 to V; NaN without recommendations.
    Raises:   BadBatch: a column outside popularity.
    """
    listed = _listed(top, popularity)
    if not len(listed):
        return float("nan")
    ordered = np.sort(-popularity)
    above, with_ties = (np.searchsorted(ordered, -popularity, side) for side in ("left", "right"))
    return float(np.mean(((above + 1 + with_ties) / 2)[listed]))


def shares_by_popularity(
    top: Int[np.ndarray, "C k"], popularity: Int[np.ndarray, " V"], num_groups: int = 10
) -> Float[np.ndarray, " num_groups"]:
    """Share of all places that each tenth of the catalogue takes, the most popular tenth first.

    Items of equal popularity share their places evenly, so that no order of ties matters. Popularity 9, 5, 5, 0
    and the lists (0, 1) and (0, -1) in two groups: item 0 has 2 of 3 places, items 1 and 2 share 1, and one of
    them is in the upper half: (2.5, 0.5) / 3.

    Args:     top: (C, k) int64 columns; -1 is nothing. Targets as (T, 1) give what people chose.
              popularity: (V,) training events of each column.  num_groups: groups of equal size.
    Returns:  (num_groups,) shares that add up to 1; all NaN without recommendations.
    Raises:   BadBatch: a column outside popularity.
    """
    listed = _listed(top, popularity)
    if not len(listed):
        return np.full(num_groups, np.nan)
    V = len(popularity)
    order = np.argsort(-popularity, kind="stable")
    _, tie = np.unique(-popularity[order], return_inverse=True)
    exposure = np.bincount(listed, minlength=V)[order]
    evenly = (np.bincount(tie, weights=exposure) / np.bincount(tie))[tie]
    up_to = np.append(0.0, np.cumsum(evenly))
    borders = np.interp(np.linspace(0, V, num_groups + 1), np.arange(V + 1), up_to)
    shares: np.ndarray = np.diff(borders) / len(listed)
    return shares


def _listed(top: np.ndarray, popularity: np.ndarray) -> Int[np.ndarray, " places"]:
    if top.size and top.max() >= len(popularity):
        raise BadBatch(f"the lists name column {top.max()}; popularity has columns 0 to {len(popularity) - 1}")
    listed: np.ndarray = top[top >= 0]
    return listed


def _exposure(top: np.ndarray, catalogue_size: int) -> Int[np.ndarray, " shown"]:
    """Count the places of each item that has any."""
    _, exposure = np.unique(top[top >= 0], return_counts=True)
    if len(exposure) > catalogue_size:
        raise BadBatch(f"the lists hold {len(exposure)} distinct items; catalogue_size is {catalogue_size}")
    return exposure

"""What lists of recommendations do to the catalogue: how much of it they show, how popular, how evenly.

C cases (one list each), k length of a list, V catalogue size. Lists hold columns, and -1 where they run
out, as `ranking.top_k` makes them. These figures describe; larger is not always better.
"""

import numpy as np
from jaxtyping import Float, Int

from upnext.base.errors import BadBatch

__all__ = ["coverage", "gini", "popularity_bias"]


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
    if top.size and top.max() >= len(popularity):
        raise BadBatch(f"the lists name column {top.max()}; popularity has columns 0 to {len(popularity) - 1}")
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


def _exposure(top: np.ndarray, catalogue_size: int) -> Int[np.ndarray, " shown"]:
    """Count the places of each item that has any."""
    _, exposure = np.unique(top[top >= 0], return_counts=True)
    if len(exposure) > catalogue_size:
        raise BadBatch(f"the lists hold {len(exposure)} distinct items; catalogue_size is {catalogue_size}")
    return exposure

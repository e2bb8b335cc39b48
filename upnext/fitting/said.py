"""What a teacher says of all candidates of example sets, in a file beside them."""

import numpy as np

from upnext.base.artifacts import Artifact, Draft
from upnext.base.batches import FlatColumn

__all__ = ["read_said", "write_said"]

_FILE = "said.npz"


def write_said(draft: Draft, said: FlatColumn, are_logits: bool = True) -> None:
    """Write raw scores (I,) into an artifact; where nothing is said they are not observed.

    Args:     are_logits: of the probability that a candidate is positive; else they only order.
    """
    np.savez(draft.folder / _FILE, values=said.values, observed=said.observed)
    draft.metrics |= {"are_logits": are_logits, "num_said": int(said.observed.sum())}


def read_said(artifact: Artifact) -> FlatColumn:
    """Read what `write_said` wrote."""
    with np.load(artifact.folder / _FILE) as found:
        return FlatColumn(found["values"], found["observed"])

"""Pairwise fine-tuning with one transformer run per impression, batched as one would: the way before one pass."""

from dataclasses import replace

import torch
from torch import Tensor

from upnext.base.batches import SequenceBatch
from upnext.models.two_towers import TwoTowers
from upnext.objectives.pairwise import ImpressionBatch


def impression_scores(model: TwoTowers, batch: ImpressionBatch, at_once: int = 64) -> Tensor:
    """(I,) scores, each from a run over the events that its impression may know; the longest histories first."""
    order = torch.argsort(batch.state, descending=True)
    scores = []
    for some in order.split(at_once):
        histories = prefixes(batch.histories, batch.row[some], batch.state[some])
        users = model.user_vectors(histories)[torch.arange(len(some)), batch.state[some]]
        scores.append((users * model.vectors_of(batch.item[some])).sum(1))
    return torch.cat(scores)[torch.argsort(order)] if scores else batch.weight.new_zeros(0)


def prefixes(histories: SequenceBatch, row: Tensor, length: Tensor) -> SequenceBatch:
    """The first events of some rows, one right-padded row per impression."""
    longest = int(length.max())
    keep = torch.arange(longest) < length[:, None]

    def cut(values: Tensor) -> Tensor:
        return values[row, :longest].masked_fill(~keep, 0)

    return SequenceBatch(
        lengths=length,
        item=cut(histories.item),
        item_hash=cut(histories.item_hash),
        time_ms=cut(histories.time_ms),
        order=cut(histories.order),
        request=cut(histories.request),
        columns={
            name: replace(column, values=cut(column.values), observed=cut(column.observed))
            for name, column in histories.columns.items()
        },
    )

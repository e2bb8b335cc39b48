"""Next-item prediction: every target event from the state before its request."""

import torch
from torch import Tensor

from upnext.base.batches import SequenceBatch
from upnext.losses.softmax import BLOCK, full_softmax_loss
from upnext.models.sasrec import SASRec

__all__ = ["TARGET", "NextItemPrediction"]

TARGET = "target"
"""The view that marks which events of a chunk are predicted."""


class NextItemPrediction:
    """Cross-entropy of the next item over all trained items.

    The query of an event is the model's state before the event's request, so that an event never sees its
    siblings. Batches hold events of the model's view and mark the predicted ones in the view `target`.

    Source:   SASRec's setting with the full softmax in place of one sampled negative.
    """

    def __init__(self, model: SASRec) -> None:
        self.model = model
        self.trained_items = model.trained.nonzero().squeeze(1)
        self.row_of_item = torch.zeros(len(model.trained), dtype=torch.int64, device=model.trained.device)
        self.row_of_item[self.trained_items] = torch.arange(len(self.trained_items), device=model.trained.device)

    def num_activations(self, tokens: int) -> int:
        """How many float32 numbers a step of T tokens holds: those of the model, the queries, and the softmax.

        The softmax over V trained items takes 2 · 256 · V for a block of logits, and 4 · V · D for the item vectors,
        their gradient, and what that adds to the embedding's; queries and their gradient take 2 · T · D.
        """
        V, D = len(self.trained_items), self.model.config.width
        return self.model.num_activations(tokens) + 2 * tokens * D + 2 * BLOCK * V + 4 * V * D

    def __call__(self, batch: SequenceBatch, step: int) -> dict[str, tuple[Tensor, Tensor]]:
        """The term `next_item`: (sum of losses, number of targets)."""
        states = self.model.states(batch.first(max(0, batch.item.shape[1] - 1)))  # nothing follows the last event
        target = batch.views[TARGET] & batch.mask
        row, event = target.nonzero(as_tuple=True)
        queries = states[row, batch.num_visible[row, event]]
        items = self.model.item_embedding.weight[self.trained_items]
        loss = full_softmax_loss(queries, items, self.row_of_item[batch.item[row, event]])
        return {"next_item": (loss, torch.tensor(float(len(row)), device=loss.device))}

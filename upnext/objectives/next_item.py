"""Next-item prediction: every target event from the state before its request."""

import torch
from torch import Tensor, nn

from upnext.base.batches import SequenceBatch
from upnext.base.views import TARGET
from upnext.models.sasrec import SASRec
from upnext.objectives.softmax import CatalogueSoftmax, FullSoftmax, FullSoftmaxConfig, trained_rows

__all__ = ["NextItemPrediction"]


class NextItemPrediction(nn.Module):
    """The softmax loss of the next item among the trained items.

    It holds the model, so that what is learned besides (a temperature) is trained and saved with it.

    The query of an event is the model's state before the event's request, so that an event never sees its
    siblings. Batches hold events of the model's view and mark the predicted ones in the view `target`.

    Args:     softmax: over the trained items in the order of their dense ids; None is the full one.
    Source:   SASRec's setting with the full softmax in place of one sampled negative.
    """

    def __init__(self, model: SASRec, softmax: CatalogueSoftmax | None = None) -> None:
        super().__init__()
        self.model = model
        self.trained_items, self.row_of_item = trained_rows(model.trained)
        self.softmax = softmax or FullSoftmax(FullSoftmaxConfig(), len(self.trained_items))

    def num_activations(self, tokens: int) -> int:
        """How many float32 numbers a step of T tokens holds: those of the model and those of the softmax.

        What the input adds to a sparse gradient of the embedding is 4 · T · D, its sums included.
        """
        D = self.model.config.width
        gradient = 4 * tokens * D if self.model.item_embedding.sparse else 0
        return self.model.num_activations(tokens) + self.softmax.num_activations(tokens, D) + gradient

    def forward(self, batch: SequenceBatch, step: int) -> dict[str, tuple[Tensor, Tensor]]:
        """The term `next_item`: (sum of losses, number of targets)."""
        states = self.model.states(batch.first(max(0, batch.item.shape[1] - 1)))  # nothing follows the last event
        target = batch.views[TARGET] & batch.mask
        row, event = target.nonzero(as_tuple=True)
        queries = states[row, batch.num_visible[row, event]]
        loss = self.softmax(queries, self.row_of_item[batch.item[row, event]], self._vectors)
        return {"next_item": (loss, torch.tensor(float(len(row)), device=loss.device))}

    def _vectors(self, rows: Tensor) -> Tensor:
        vectors: Tensor = self.model.item_embedding(self.trained_items[rows])
        return vectors

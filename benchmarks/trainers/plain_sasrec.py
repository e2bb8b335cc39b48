"""SASRec as one writes it in PyTorch in an hour: stock layers, batches of similar lengths, stock cross-entropy.

It reads the training part that `upnext_sasrec.py` wrote, and predicts the same events but each user's first.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from pace import Pace
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, LAYERS, HEADS, LENGTH, DROPOUT, ROWS = 64, 2, 1, 200, 0.2, 32


class PlainSASRec(nn.Module):
    """Stock encoder layers under a causal mask; scores of the whole catalogue at every position."""

    def __init__(self, num_items: int) -> None:
        super().__init__()
        self.items = nn.Embedding(num_items, WIDTH, padding_idx=0)
        self.positions = nn.Embedding(LENGTH, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, WIDTH, DROPOUT, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.dropout = nn.Dropout(DROPOUT)
        nn.init.normal_(self.items.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (B, L, V)."""
        L = x.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(L)
        hidden = self.dropout(self.items(x) + self.positions.weight[:L])
        logits: Tensor = self.layers(hidden, mask, is_causal=True) @ self.items.weight.T
        return logits


def main() -> None:
    """Read the training part, then train by turns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True, help="where the training part lies")
    parser.add_argument("--epochs", type=int, required=True)
    arguments = parser.parse_args()
    part = np.load(arguments.folder / "training-part.npz")
    users = [torch.from_numpy(items) for items in np.split(part["item"], part["offsets"][1:-1]) if len(items) > 1]
    pairs = ((torch.split(items[:-1], LENGTH), torch.split(items[1:], LENGTH)) for items in users)
    chunks = [pair for xs, ys in pairs for pair in zip(xs, ys, strict=True)]
    chunks.sort(key=lambda chunk: len(chunk[0]))
    batches = [chunks[start : start + ROWS] for start in range(0, len(chunks), ROWS)]
    torch.manual_seed(0)
    model = PlainSASRec(int(part["item"].max()) + 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    pace = Pace(arguments.epochs, sum(len(y) for _, y in chunks))
    for _ in range(arguments.epochs):
        pace.start()
        for number in torch.randperm(len(batches)):
            x, y = (
                nn.utils.rnn.pad_sequence(list(side), batch_first=True) for side in zip(*batches[number], strict=True)
            )
            loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=0)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        pace.end()


if __name__ == "__main__":
    main()

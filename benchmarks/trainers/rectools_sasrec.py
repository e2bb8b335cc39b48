"""RecTools' SASRec on the training part that `upnext_sasrec.py` wrote, with its own trainer, in its own environment.

It pads every user to the length, takes the last `LENGTH` + 1 events of each, and predicts the last `LENGTH` of them.
"""

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pace import Pace
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

WIDTH, LAYERS, HEADS, LENGTH, DROPOUT = 64, 2, 1, 200, 0.2


class ByTurns(Callback):  # type: ignore[misc]  # mypy runs where RecTools is not
    """The clock around the batches of each epoch."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace

    def on_train_epoch_start(self, *_: Any) -> None:
        """Wait for the turn."""
        self.pace.start()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Say what it took."""
        self.pace.end()


def main() -> None:
    """Read the training part, then train by turns."""
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True, help="where the training part lies")
    parser.add_argument("--epochs", type=int, required=True)
    arguments = parser.parse_args()
    part = np.load(arguments.folder / "training-part.npz")
    counts = np.diff(part["offsets"])
    order = np.arange(len(part["item"]))
    events = {Columns.User: np.repeat(np.arange(len(counts)), counts), Columns.Item: part["item"], Columns.Weight: 1.0}
    dataset = Dataset.construct(pd.DataFrame(events | {Columns.Datetime: pd.to_datetime(order, unit="s")}))
    pace = Pace(arguments.epochs, int(np.clip(counts - 1, 0, LENGTH).sum()))

    def trainer() -> Trainer:  # RecTools' own, on the CPU, with the clock
        return Trainer(
            max_epochs=arguments.epochs,
            min_epochs=arguments.epochs,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            logger=False,
            devices=1,
            accelerator="cpu",
            callbacks=[ByTurns(pace)],
        )

    model = SASRecModel(
        n_factors=WIDTH,
        n_blocks=LAYERS,
        n_heads=HEADS,
        session_max_len=LENGTH,
        dropout_rate=DROPOUT,
        loss="softmax",
        lr=1e-3,
        batch_size=128,
        get_trainer_func=trainer,
    )
    model.fit(dataset)


if __name__ == "__main__":
    main()

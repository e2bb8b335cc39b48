"""SASRec as `upnext run` trains it: the example's log, chunks, objective and training loop, checkpoints included.

The loop's validation is replaced by the clock. What follows it in the loop, a checkpoint and a line of the
history, counts for the next epoch.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from pace import Pace

from upnext.base.views import TARGET
from upnext.commands.project import load_project
from upnext.events.log import EventLog
from upnext.events.split import TRAIN
from upnext.models.sasrec import SASRec, SASRecConfig
from upnext.objectives.next_item import NextItemPrediction
from upnext.pipeline import prepare
from upnext.training.chunks import Chunks
from upnext.training.loop import train

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "ml-1m.toml"


def main() -> None:
    """Prepare the log, write its training part for the others to read, then train by turns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True, help="for the workspace and the training part")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--set", nargs="*", default=[], help="further settings, as in `upnext run`")
    arguments = parser.parse_args()
    settings = ["model.width=64", "model.heads=1", "model.layers=2", "model.max_length=200", "model.dropout=0.2"]
    settings += ["model.feed_forward=1"]
    settings += ["training.tokens_per_batch=6400", "training.device=cpu", *arguments.set]
    settings += [f"training.epochs={arguments.epochs}", f"training.patience={arguments.epochs}"]
    overrides = [f"workspace={arguments.folder / 'runs'}", *(f"pretrain.sasrec.{one}" for one in settings)]
    project = load_project(EXAMPLE, overrides)
    config = project.pretrain["sasrec"]
    assert isinstance(config.model, SASRecConfig)
    parent = prepare.run(project.prepare, project.opened())

    log, part = EventLog.open(parent.folder / "log"), np.load(parent.folder / "split.npy")
    rows, events = log.in_view(config.model.view)
    is_trained = part[rows] == TRAIN
    rows, events = rows[is_trained], events.take(is_trained)
    # RecTools learns from the last events of each user alone: everyone gets no others, and the same targets.
    ends = np.searchsorted(rows, log.offsets)[1:]
    owner = np.searchsorted(ends, np.arange(len(rows)), side="right")
    is_last = np.arange(len(rows)) >= ends[owner] - config.model.max_length - 1
    rows, events = rows[is_last], events.take(is_last)
    offsets = np.searchsorted(rows, log.offsets)
    np.savez(arguments.folder / "training-part.npz", item=events.item, offsets=offsets)

    num_items = int(parent.manifest["metrics"]["num_dense_items"])
    trained = torch.from_numpy(np.bincount(events.item, minlength=num_items) > 0)
    # As in pretrain: the last event of a chunk is only a target.
    chunks = Chunks.cut(events.without_columns(), offsets, config.model.max_length + 1)
    torch.manual_seed(config.training.seed)
    model = SASRec(config.model, trained)
    everything = np.array_split(np.arange(len(chunks.lengths)), 100)
    pace = Pace(arguments.epochs, sum(int(chunks.batch(some).views[TARGET].sum()) for some in everything))

    def validate() -> dict[str, float]:
        if pace.end():
            pace.start()
        return {"epochs_left": -float(pace.left)}  # better each time

    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        pace.start()
        train(model, NextItemPrediction(model), chunks, validate, config.training, Path(folder))


if __name__ == "__main__":
    main()

"""Gradient attenuation in a main model, with and without masked training of its aggregators.

    python benchmarks/attenuation.py [--layers 1 2 4] [--epochs 4] [--events 50000]

The service of examples/simulated-ranking.toml and its ranker `attention`, with so many layers in both aggregators, each
trained without masks and with them. Measured:

* the gradient of every sub-model at every step, as a root mean square over its parameters, before it is clipped;
* what a sub-model is worth: how much the ranking loss grows where its input is that of another request; on sets that
  are trained on, and on sets of the validation part. Their difference is the sub-model's gap: what it fits and does not
  hold;
* the ranking loss of the validation part against the number of layers.

Rows go to docs/results/attenuation.json, the plot to docs/images/attenuation.svg.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import commit, machine
from rich.console import Console
from torch import Tensor

from upnext.base.batches import State
from upnext.base.configuration import parse_config
from upnext.commands.project import load_project
from upnext.commands.run import run_stages
from upnext.events.log import EventLog
from upnext.events.split import VALIDATION
from upnext.features.people import People
from upnext.fitting.ranking import RankPlan, ToldOf, plan
from upnext.fitting.ranking_config import MainRankConfig
from upnext.objectives.masked import MaskedTraining
from upnext.objectives.ranking import PointwiseRanking, RankingBatch
from upnext.training.batches import length_batches
from upnext.training.loop import train

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FILE = ROOT / "examples" / "simulated-ranking.toml"
PROBED = 600
"""Sets on which the worth of sub-models is measured, of each part."""


@dataclass
class Watched:
    """What was seen of one training."""

    gradients: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By sub-model, a root mean square for each step."""
    losses: list[tuple[float, float]] = field(default_factory=list)
    """Per epoch the ranking loss on trained sets, and on those of the validation part."""
    worth: list[dict[str, tuple[float, float]]] = field(default_factory=list)
    """Per epoch and sub-model, on both."""
    minutes: float = 0.0

    @property
    def best(self) -> int:
        """The epoch with the least validation loss."""
        return min(range(len(self.losses)), key=lambda epoch: self.losses[epoch][1])


def main() -> None:
    """Train every variant, write rows and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--weight", type=float, default=0.1, help="w1, of the masked loss")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workspace", type=Path, default=Path("runs/attenuation"))
    parser.add_argument("--docs", type=Path, default=DOCS, help="where `images` and `results` are")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    given = [f"workspace={arguments.workspace}", f"simulate.num_events={arguments.events}"]
    given.append(f"simulate.num_users={max(50, arguments.events // 100)}")
    project = load_project(FILE, given)
    run_stages(project, Console(quiet=True), until="prepare")
    folder = project.opened().current("log", "log").folder
    found = {}
    for layers in arguments.layers:
        for weight in (None, arguments.weight):
            config = configured(project.rank["attention"], layers, weight, arguments.epochs)
            one = found[layers, weight is not None] = trained(config, folder)
            said = f"{layers} layers, {'masked' if weight else 'plain'}"
            print(f"{said}: validation loss {one.losses[one.best][1]:.4f}, {one.minutes:.1f} minutes", flush=True)
    (arguments.docs / "results" / "attenuation.json").write_text(json.dumps(rows_of(found, arguments), indent=1) + "\n")
    draw(found, arguments.docs / "images" / "attenuation.svg")


def configured(ranker: Any, layers: int, weight: float | None, epochs: int) -> MainRankConfig:
    """The project's ranker with so many layers, and masks if they have a weight."""
    assert isinstance(ranker, MainRankConfig)
    data = ranker.model_dump(by_alias=True, exclude={"masked", "start"})
    for aggregator in data["model"]["aggregators"].values():
        aggregator["layers"] = layers
    data["training"] |= {"epochs": epochs, "patience": epochs}
    if weight is not None:
        data["masked"] = {"weight": weight}
    return parse_config(MainRankConfig, data, "benchmark")


def trained(config: MainRankConfig, folder: Path) -> Watched:
    """Train a ranker and watch it."""
    log, part = EventLog.open(folder / "log"), np.load(folder / "split.npy")
    users = People.load(folder).features.columns

    def told(which: int) -> ToldOf:
        return ToldOf(np.flatnonzero(part == which), {})

    planned, watched = plan(config, folder, log, part, users, told), Watched()
    held = plan(config, folder, log, part, users, lambda _: told(VALIDATION))
    torch.manual_seed(config.training.seed)
    objective = planned.make(torch.device("cpu"))
    ranking = objective.ranking if isinstance(objective, MaskedTraining) else objective
    assert isinstance(ranking, PointwiseRanking)
    watch_gradients(ranking, watched)
    validate = planned.validation(objective)
    known, unknown = (probes(one, config.training.tokens_per_batch, which) for one, which in ((planned, 0), (held, 1)))

    def validation() -> dict[str, float]:
        (before, of_known), (after, of_unknown) = worth(ranking, known), worth(ranking, unknown)
        watched.losses.append((before, after))
        watched.worth.append({name: (of_known[name], of_unknown[name]) for name in of_known})
        return validate()

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as checkpoints:
        train(objective, objective, planned.data, validation, config.training, Path(checkpoints))
    watched.minutes = (time.perf_counter() - start) / 60
    return watched


def watch_gradients(ranking: PointwiseRanking, watched: Watched) -> None:
    """Record each sub-model's gradient as it is computed."""
    of: dict[str, list[torch.nn.Parameter]] = defaultdict(list)
    for name, parameter in ranking.model.named_parameters():
        if (sub_model := sub_model_of(name)) is not None:
            of[sub_model].append(parameter)
    for sub_model, parameters in of.items():
        squares: dict[int, float] = {}

        def seen(
            parameter: Tensor,
            sub_model: str = sub_model,
            squares: dict[int, float] = squares,
            count: int = len(parameters),
            size: int = sum(one.numel() for one in parameters),
        ) -> None:
            assert parameter.grad is not None
            squares[id(parameter)] = float(parameter.grad.square().sum())
            if len(squares) == count:
                watched.gradients[sub_model].append((sum(squares.values()) / size) ** 0.5)
                squares.clear()

        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(seen)  # type: ignore[no-untyped-call]


def sub_model_of(parameter: str) -> str | None:
    """Which sub-model a parameter belongs to; those of embeddings are nobody's."""
    first, *rest = parameter.split(".")
    if first == "aggregators":
        return f"{rest[0].removeprefix('column_')}, layer {int(rest[2]) + 1}" if rest[1] == "layers" else None
    return {"history": "joined history", "joining": "joining", "output": "output"}.get(first)


def probes(planned: RankPlan, tokens: int, seed: int) -> list[RankingBatch]:
    """Some sets of a plan, drawn once, in batches."""
    data = planned.data
    chosen = np.sort(np.random.default_rng(seed).permutation(len(data))[:PROBED])
    return [data.batch(chosen[rows]) for rows in length_batches(data.lengths[chosen], tokens)]


def worth(ranking: PointwiseRanking, batches: list[RankingBatch]) -> tuple[float, dict[str, float]]:
    """The ranking loss, and by how much it grows where a sub-model reads of another request."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for batch in batches:
        state = ranking.model.encode(batch.histories)
        for name, (asked, given) in exchanged(ranking, batch, state).items():
            for term, (loss, targets) in ranking.terms(asked, given).items():
                kept = sums[f"{name}|{term}"]
                kept[0], kept[1] = kept[0] + loss.item(), kept[1] + targets.item()
    losses: dict[str, float] = defaultdict(float)
    for name, (total, weight) in sums.items():
        losses[name.split("|")[0]] += total / weight
    whole = losses.pop("")
    return whole, {name: loss - whole for name, loss in losses.items()}


def exchanged(ranking: PointwiseRanking, batch: RankingBatch, state: State) -> Mapping[str, tuple[RankingBatch, State]]:
    """The batch as it is, and with the input of one sub-model after the other moved on by one request."""
    request, found = batch.request, {"": (batch, state)}
    moved = torch.roll(torch.arange(len(request)), 1)
    other = request.take(moved)
    pooled, config = state.tensors["pooled"], ranking.model.config
    names = list(config.aggregators) if hasattr(config, "aggregators") else []
    for number, name in enumerate(names):
        own = slice(number * config.width, (number + 1) * config.width)
        changed = pooled.clone()
        changed[:, own] = torch.roll(pooled, 1, 0)[:, own]
        found[name] = batch, State({**state.tensors, "pooled": changed})
    found["user"] = replace(batch, request=replace(request, features=other.features)), state
    found["time"] = replace(batch, request=replace(request, time_ms=other.time_ms)), state
    found["place"] = replace(batch, request=replace(request, context=other.context)), state
    return found


def rows_of(found: Mapping[tuple[int, bool], Watched], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of docs/results: losses, gaps and gradients of every variant."""
    known = {
        "benchmark": "attenuation",
        "dataset": "simulated",
        "model": "main",
        "protocol": "ranking loss of all feedback; gradients over the whole training, gaps at the best epoch",
        "settings": {
            key: str(value) for key, value in vars(arguments).items() if key in ("events", "epochs", "weight")
        },
        "k": None,
        "seeds": 1,
        "low": None,
        "high": None,
        "commit": commit("benchmarks/attenuation.py", "examples/simulated-ranking.toml"),
        "machine": machine(f"{arguments.threads} threads"),
        "command": "python benchmarks/attenuation.py"
        f" --layers {' '.join(map(str, arguments.layers))} --epochs {arguments.epochs} --events {arguments.events}",
    }
    rows = []
    for (layers, is_masked), one in found.items():
        fitted, held = one.losses[one.best]
        figures = {"validation_loss": held, "gap": held - fitted}
        for name, (of_known, of_unknown) in one.worth[one.best].items():
            figures |= {f"worth of {name}": of_unknown, f"gap of {name}": of_known - of_unknown}
        ends = (", layer 1", f", layer {layers}")  # the plot has the layers between
        gradients = {name: values for name, values in one.gradients.items() if name.endswith(ends) or "," not in name}
        figures |= {f"gradient of {name}": float(np.mean(values)) for name, values in gradients.items()}
        variant = f"{layers} layers, {'masked' if is_masked else 'plain'}"
        head = known | {"variant": variant, "minutes": round(one.minutes, 2)}
        rows += [head | {"metric": name, "value": float(f"{value:.4g}")} for name, value in figures.items()]
    return rows


def draw(found: Mapping[tuple[int, bool], Watched], path: Path) -> None:
    """Gradients over training, gaps over epochs, and quality against layers, with and without masks."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    deepest = max(layers for layers, _ in found)
    with rc_context({"svg.hashsalt": "upnext", "font.size": 8}):
        figure = Figure(figsize=(10, 7), layout="constrained")
        (plain, masked), (gaps, quality) = figure.subplots(2, 2)
        for axes, is_masked in ((plain, False), (masked, True)):
            for name, values in found[deepest, is_masked].gradients.items():
                width = max(1, len(values) // 40)
                smooth = np.convolve(values, np.ones(width) / width, mode="valid")
                axes.plot(np.arange(len(smooth)) + width, smooth, label=name, linewidth=1)
            axes.set(title=f"gradient (RMS), {deepest} layers, {'masked' if is_masked else 'plain'}", xlabel="step")
            axes.set_yscale("log")
        masked.legend(fontsize=6, ncols=2)
        low, high = min(one.get_ylim()[0] for one in (plain, masked)), max(one.get_ylim()[1] for one in (plain, masked))
        for axes in (plain, masked):
            axes.set_ylim(low, high)
        for number, name in enumerate(found[deepest, False].worth[0]):
            for is_masked, dash in ((False, "-"), (True, "--")):
                one = found[deepest, is_masked]
                values = [worth[name][0] - worth[name][1] for worth in one.worth]
                label = f"{name}, {'masked' if is_masked else 'plain'}"
                gaps.plot(range(1, len(values) + 1), values, dash, color=f"C{number}", label=label)
        gaps.set(title=f"gap of what a sub-model is worth, {deepest} layers", xlabel="epoch")
        gaps.legend(fontsize=6, ncols=2)
        for is_masked, dash in ((False, "o-"), (True, "o--")):
            layers = sorted({count for count, with_masks in found if with_masks is is_masked})
            losses = [found[count, is_masked].losses[found[count, is_masked].best][1] for count in layers]
            quality.plot(layers, losses, dash, label="masked" if is_masked else "plain")
        quality.set(title="validation loss against layers", xlabel="layers", xticks=layers)
        quality.legend()
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()

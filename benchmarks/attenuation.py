"""Gradient attenuation in a main model, with and without masked training of its aggregators.

    python benchmarks/attenuation.py
    python benchmarks/attenuation.py --layers 0 1 2 4 --seeds 0 1 2 --epochs 8

The service of examples/simulated-rankers.toml, smaller, where everything was shown in lists, and its ranker `attention`
without counts, so that what is known of a user comes through the aggregators alone. It has so many layers in each of
them, and is trained without masks and with them; 0 layers are sums, which cannot be masked. Measured, of every seed:

* the gradient of every sub-model and layer at every step, as a root mean square over its parameters, before clipping;
* what a sub-model is worth: how much the ranking loss grows where its input is that of another request; on sets that
  are trained on, and on sets of the validation part. Their difference is the sub-model's gap: what it fits and does not
  hold;
* the ranking loss on trained sets and those of the validation part, and their gap; that of the test part, at the epoch
  that is best on the validation part, is the quality that is compared.

Rows go to docs/results/attenuation.json, the plot to docs/images/attenuation.svg. Every training is kept in the
workspace, so that a run that was killed goes on where it stopped.
"""

import argparse
import hashlib
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attenuation_plot import draw
from record import commit, machine
from rich.console import Console
from torch import Tensor

from upnext.base.batches import State
from upnext.base.configuration import parse_config
from upnext.commands.project import load_project
from upnext.commands.run import run_stages
from upnext.events.log import EventLog
from upnext.events.split import TEST, VALIDATION
from upnext.features.people import People
from upnext.fitting.ranking import RankPlan, ToldOf, plan
from upnext.fitting.ranking_config import MainRankConfig
from upnext.metrics.intervals import over_seeds
from upnext.objectives.masked import MaskedTraining
from upnext.objectives.ranking import PointwiseRanking, RankingBatch
from upnext.training.batches import length_batches
from upnext.training.loop import train

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FILE = ROOT / "examples" / "simulated-rankers.toml"
PROBED = 1000
"""Sets on which losses and the worth of sub-models are measured, of each part; at most."""

Row = dict[str, Any]


@dataclass
class Watched:
    """What was seen of one training."""

    gradients: dict[str, list[float]] = field(default_factory=dict)
    """By sub-model, a root mean square for each step."""
    losses: list[tuple[float, float, float]] = field(default_factory=list)
    """Per epoch the ranking loss on trained sets, on those of the validation part, and of the test part."""
    worth: list[dict[str, tuple[float, float]]] = field(default_factory=list)
    """Per epoch and sub-model, on trained sets and those of the validation part."""
    minutes: float = 0.0

    @property
    def best(self) -> int:
        """The epoch with the least validation loss."""
        return min(range(len(self.losses)), key=lambda epoch: self.losses[epoch][1])


def main() -> None:
    """Train every variant with every seed, write rows and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 1, 2, 4, 8])
    parser.add_argument("--weight", type=float, default=0.03, help="w1, of the masked loss")
    parser.add_argument("--rate", type=float, default=0.2, help="how many positions are masked")
    parser.add_argument("--norm", choices=("post", "pre"), default="post")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workspace", type=Path, default=Path("runs/attenuation"))
    parser.add_argument("--docs", type=Path, default=DOCS, help="where `images` and `results` are")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size = {"num_events": arguments.events, "num_items": arguments.items, "days": 14}
    size["num_users"] = max(50, arguments.events // 100)
    given = [f"workspace={arguments.workspace}", *(f"simulate.{name}={number}" for name, number in size.items())]
    project = load_project(FILE, given)
    run_stages(project, Console(quiet=True), until="prepare")
    folder = project.opened().current("log", "log").folder
    found: dict[tuple[int, bool], list[Watched]] = defaultdict(list)
    for seed in arguments.seeds:
        for layers in arguments.layers:
            for is_masked in (False, True) if layers else (False,):
                config = configured(project.rank["attention"], layers, is_masked, seed, arguments)
                one = kept(config, folder, arguments.workspace / "watched")
                found[layers, is_masked].append(one)
                said = f"{variant(layers, is_masked)}, seed {seed}: epoch {one.best + 1}, losses"
                print(said, *(f"{loss:.4f}" for loss in one.losses[one.best]), f"{one.minutes:.1f} min", flush=True)
    (arguments.docs / "results" / "attenuation.json").write_text(json.dumps(rows_of(found, arguments), indent=1) + "\n")
    path = arguments.docs / "images" / "attenuation.svg"
    path.parent.mkdir(exist_ok=True)
    path.write_text(draw(found))


def variant(layers: int, is_masked: bool) -> str:
    """What a variant is called."""
    said = f"{layers} layer{'' if layers == 1 else 's'}" if layers else "sums"
    return f"{said}, masked" if is_masked else f"{said}, plain"


def configured(ranker: Any, layers: int, is_masked: bool, seed: int, arguments: argparse.Namespace) -> MainRankConfig:
    """The project's ranker with so many layers, without counts, and with masks or not."""
    assert isinstance(ranker, MainRankConfig)
    data = ranker.model_dump(by_alias=True, exclude={"masked", "start"})
    data["model"]["aggregates"] = []
    for name, one in data["model"]["aggregators"].items():
        if layers:
            one |= {"layers": layers, "norm": arguments.norm}
        else:
            data["model"]["aggregators"][name] = {"kind": "sum_pooling", "view": one["view"], "length": one["length"]}
    data["training"] |= {"epochs": arguments.epochs, "patience": arguments.epochs, "seed": seed}
    if is_masked:
        data["masked"] = {"weight": arguments.weight, "rate": arguments.rate}
    return parse_config(MainRankConfig, data, "benchmark")


def kept(config: MainRankConfig, log: Path, folder: Path) -> Watched:
    """What was seen of a training: of an earlier run of the same, or of a new one."""
    recipe = f"{log.name} {PROBED} {config.model_dump_json(by_alias=True)}"
    path = folder / f"{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.json"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(trained(config, log))))
    return Watched(**json.loads(path.read_text()))


def trained(config: MainRankConfig, folder: Path) -> Watched:
    """Train a ranker and watch it."""
    log, part = EventLog.open(folder / "log"), np.load(folder / "split.npy")
    users = People.load(folder).features.columns

    def told(which: int) -> ToldOf:
        return ToldOf(np.flatnonzero(part == which), {})

    def only(which: int, _: int) -> ToldOf:
        return told(which)

    planned, watched = plan(config, folder, log, part, users, told), Watched()
    torch.manual_seed(config.training.seed)
    objective = planned.make(torch.device("cpu"))
    ranking = objective.ranking if isinstance(objective, MaskedTraining) else objective
    assert isinstance(ranking, PointwiseRanking)
    watch_gradients(ranking, watched)
    validate = planned.validation(objective)
    plans = [planned, *(plan(config, folder, log, part, users, partial(only, which)) for which in (VALIDATION, TEST))]
    known, held, unseen = (probes(one, config.training.tokens_per_batch, seed) for seed, one in enumerate(plans))

    def validation() -> dict[str, float]:
        (before, of_known), (after, of_held) = worth(ranking, known), worth(ranking, held)
        watched.losses.append((before, after, worth(ranking, unseen)[0]))
        watched.worth.append({name: (of_known[name], of_held[name]) for name in of_known})
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
                watched.gradients.setdefault(sub_model, []).append((sum(squares.values()) / size) ** 0.5)
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


def rows_of(found: Mapping[tuple[int, bool], Sequence[Watched]], arguments: argparse.Namespace) -> list[Row]:
    """Rows of docs/results: losses, gaps and gradients of every variant, and what masks change, paired by seed."""
    told = {key: value for key, value in vars(arguments).items() if key not in ("docs", "workspace")}
    asked = " ".join(
        f"--{key} {' '.join(map(str, value)) if isinstance(value, list) else value}" for key, value in told.items()
    )
    known = {
        "benchmark": "attenuation",
        "dataset": "simulated",
        "model": "main",
        "protocol": "ranking loss of all feedback, of the test part at the epoch that is best on the validation part;"
        " gradients over the whole training",
        "settings": {key: str(value) for key, value in told.items()},
        "k": None,
        "seeds": len(arguments.seeds),
        "commit": commit("benchmarks/attenuation.py", "benchmarks/attenuation_plot.py", str(FILE)),
        "machine": machine(f"{arguments.threads} threads"),
        "command": f"python benchmarks/attenuation.py {asked}",
    }
    figures = {key: [figures_of(key[0], one) for one in runs] for key, runs in found.items()}
    rows = []
    for (layers, is_masked), of_seeds in figures.items():
        minutes = round(float(np.mean([one.minutes for one in found[layers, is_masked]])), 2)
        head = known | {"variant": variant(layers, is_masked), "minutes": minutes}
        rows += [head | row_of(name, [one[name] for one in of_seeds]) for name in of_seeds[0]]
        if is_masked:
            pairs = list(zip(of_seeds, figures[layers, False], strict=True))
            for name in ("test_loss", "gap", "gap at the end"):
                changes = [masked[name] - plain[name] for masked, plain in pairs]
                rows.append(head | row_of(f"{name}, against plain", changes))
    return rows


def row_of(metric: str, values: Sequence[float]) -> Row:
    """The mean over seeds, with Student's interval if there are several."""
    mean = over_seeds(np.array(values))
    ends = {"low": mean.low, "high": mean.high} if len(values) > 1 else {}
    said: Row = {name: float(f"{value:.4g}") for name, value in {"value": mean.value, **ends}.items()}
    return {"metric": metric, "low": None, "high": None} | said | {"values": [float(f"{one:.4g}") for one in values]}


def figures_of(layers: int, one: Watched) -> dict[str, float]:
    """The figures of one training; of layers between the first and the last the plot alone has gradients."""
    fitted, held, unseen = one.losses[one.best]
    figures = {"test_loss": unseen, "validation_loss": held, "gap": held - fitted, "best epoch": one.best + 1.0}
    figures["gap at the end"] = one.losses[-1][1] - one.losses[-1][0]
    for name, (of_known, of_held) in one.worth[one.best].items():
        figures |= {f"worth of {name}": of_held, f"gap of {name}": of_known - of_held}
    ends = (", layer 1", f", layer {layers}")
    gradients = {name: values for name, values in one.gradients.items() if name.endswith(ends) or "," not in name}
    return figures | {f"gradient of {name}": float(np.mean(values)) for name, values in gradients.items()}


if __name__ == "__main__":
    main()

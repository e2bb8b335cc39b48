"""Rankers side by side: train each with several seeds, and keep how well it foresees feedback and orders lists.

    python benchmarks/rankers.py examples/simulated-rankers.toml --seeds 0 1 2 3 4
    python benchmarks/rankers.py examples/kuairand-rankers.toml --seeds 0 1 2 3 4 --feedback click long_view
    python benchmarks/rankers.py examples/simulated-rankers.toml --models sum attention --part validation --seeds 0
    python benchmarks/rankers.py examples/simulated-rankers.toml --latency

Every model of the project is trained as `upnext run` would, and judged by the figures of `upnext evaluate` on what was
shown in the test part: each feedback, and the order of what was shown together by the project's utility. Beside the
models stand the mean of all, each item's own rates and, of a simulated service, its truth. Rows go to
`docs/results/rankers-<name>.json`: the mean over seeds, half the width of Student's interval over them as
`seeds_reach`, and the interval over users of the first seed. `[evaluate] uplift` says which models are compared as one
that was given something and the same without it. With `--models` the others are neither trained nor measured, and their
rows stay. With `--part validation` nothing is written: this is how settings are chosen. What is up to date is found, so
that a run that was killed goes on where it stopped.

`--latency` keeps no other figures: it trains the models of the first seed if need be, and asks them in turn about 500
candidates of one request after the other, on one thread; run it again where it had to train. What is told of candidates
(counts, what other models say) is there already; the past is encoded each time.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from argus import over_runs, show, with_seed
from numpy.typing import NDArray
from quality import RESULTS
from record import commit, machine
from rich.console import Console

from upnext.base.artifacts import Artifact
from upnext.base.batches import Candidates, Column, FlatColumn, ItemTable, Request
from upnext.base.ids import FIRST
from upnext.base.protocols import Ranker, lag_of
from upnext.base.views import ALL
from upnext.commands.project import Project
from upnext.commands.run import run_stages
from upnext.evaluation.asking import column_at
from upnext.evaluation.cases import Cases, find_cases
from upnext.evaluation.ranking import Histories, contexts_of
from upnext.events.log import EventLog
from upnext.events.split import TEST, TRAIN, VALIDATION
from upnext.features.aggregates import ReadsColumns
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.models.build import AnyRanker, load_any
from upnext.pipeline.subjects import Shown
from upnext.pipeline.told import Scorers, Told, scorers_of

Row = dict[str, Any]

METRICS = (
    "auc",
    "user_auc",
    "log_loss",
    "normalised_entropy",
    "calibration_error",
    "mae",
    "pair_accuracy",
    "user_pair_accuracy",
    "utility_ndcg",
)
PARTS = {"test": TEST, "validation": VALIDATION}


def main() -> None:
    """Train and measure with each seed, write the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configuration", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="seeds of the trained models")
    parser.add_argument("--models", nargs="+", help="those to train and measure; left out: all")
    parser.add_argument("--feedback", nargs="+", help="the feedback to keep; left out: all")
    parser.add_argument("--part", choices=PARTS, default="test")
    parser.add_argument("--latency", action="store_true", help="how long models take; everything else must be quiet")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of the rows")
    arguments = parser.parse_args()
    file, console = arguments.configuration, Console()
    runs = []
    for number, seed in enumerate(arguments.seeds):
        project = only(with_seed(file, seed), arguments.models)
        run_stages(project, console, until="rank" if project.rank else "pretrain", resume=True)
        if arguments.latency:
            runs = [latencies(project)]
            break
        # The intervals of the first seed are kept.
        samples = project.evaluate.bootstrap_samples if number == 0 else 2
        runs.append(measured(project, arguments.feedback, PARTS[arguments.part], samples))
    told = "".join(
        f" --{key} {' '.join(map(str, getattr(arguments, key)))}"
        for key in ("seeds", "models", "feedback")
        if getattr(arguments, key) and not (arguments.latency and key != "models")
    )
    told += " --latency" if arguments.latency else ""
    head = {
        "dataset": file.stem,
        "variant": file.stem,
        "protocol": f"what was shown in the {arguments.part} part",
        "command": f"python benchmarks/rankers.py {file}{told}",
        "commit": commit(str(file), "benchmarks/rankers.py"),
        "machine": machine(f"{torch.get_num_threads()} threads", packages=("torch", "lightgbm")),
    }
    rows = [head | over_runs(rows) for rows in zip(*runs, strict=True)]
    show(rows, console)
    if arguments.part == "test":
        path = arguments.results / f"rankers-{file.stem.removesuffix('-rankers')}.json"
        path.write_text(json.dumps(beside(rows, path), indent=1) + "\n")
        console.print(f"{len(rows)} rows in {path}")


def only(project: Project, names: Sequence[str] | None) -> Project:
    """The project with some of its models."""
    if names is None:
        return project
    chosen = {
        table: {name: one for name, one in getattr(project, table).items() if name in names}
        for table in ("pretrain", "finetune", "rank")
    }
    return project.model_copy(update=chosen)


@dataclass(frozen=True)
class Trained:
    """The models of a project, and the log that they are asked about."""

    artifact: Artifact
    models: dict[str, Artifact]
    simulation: list[Artifact]
    log: EventLog
    part: NDArray[np.int8]
    items: ItemTable
    users: Mapping[str, Column]
    scorers: Scorers
    loaded: dict[str, AnyRanker]

    @classmethod
    def of(cls, project: Project) -> "Trained":
        """Those of a project whose stages have run."""
        workspace = project.opened()
        artifact = workspace.current("log", "log")
        models = {name: workspace.current(f"model-{name}", "model", artifact) for name in project.models}
        simulation = [workspace.named(name) for name in artifact.manifest["parents"] if name.startswith("simulation-")]
        log, part = EventLog.open(artifact.folder / "log"), np.load(artifact.folder / "split.npy")
        items, users = Catalogue.load(artifact.folder).items, People.load(artifact.folder).features.columns
        scorers = Scorers.among(models, scorers_of(workspace, artifact, models), log, items)
        loaded = {name: load_any(model.folder, items) for name, model in models.items()}
        return cls(artifact, models, simulation, log, part, items, users, scorers, loaded)


def measured(project: Project, feedback: Sequence[str] | None, which: int, num_samples: int) -> list[Row]:
    """Every figure of every model of a project, on what was shown in one part of the split."""
    of, settings = Trained.of(project), project.evaluate
    # What is measured is what the evaluation takes for the test part.
    asked = np.select([of.part == TRAIN, of.part == which], [TRAIN, TEST], VALIDATION).astype(of.part.dtype)
    shown = Shown(of.artifact, of.log, asked, of.items, of.users, of.simulation, of.scorers)
    uplift = [pair for pair in settings.uplift if {pair.of, pair.over} <= of.models.keys()]
    found = shown.figures(of.loaded, settings.utility, settings.window_ms, num_samples, uplift)
    kept = {*(of.log.schema.feedback if feedback is None else feedback), "utility"}
    rows = [row for row in found.feedback if row["feedback"] in kept and row["metric"] in METRICS]
    rows += [
        {"model": f"{row['of']} over {row['over']}", "feedback": "utility", "metric": "uplift"}
        | {key: row[key] for key in ("value", "low", "high")}
        for row in found.uplift
    ]
    minutes = {name: model.manifest["metrics"].get("seconds") for name, model in of.models.items()}
    return [
        {"benchmark": "rankers", "k": None, "settings": {}}
        | row
        | {"minutes": None if (seconds := minutes.get(row["model"])) is None else round(seconds / 60, 2)}
        for row in rows
    ]


def latencies(project: Project, num_requests: int = 300, num_candidates: int = 500) -> list[Row]:
    """Milliseconds that each ranker takes for candidates of one request: to encode the past, and to answer."""
    torch.set_num_threads(1)
    of, generator = Trained.of(project), np.random.default_rng(0)
    cases = find_cases(of.log, of.part, TEST, ALL)
    cases = cases.take(np.sort(generator.permutation(len(cases))[:num_requests]))
    shown = generator.integers(FIRST, len(of.items), (len(cases), num_candidates))
    told = Told.of_cases(of.log, cases, shown, of.items, of.users, of.scorers)
    askers = {
        name: asker(model, of, cases, shown, told.to(name, model.aggregates) if isinstance(model, ReadsColumns) else {})
        for name, model in of.loaded.items()
        if isinstance(model, Ranker)
    }
    took = np.empty((len(askers), len(cases)))
    with torch.inference_mode():
        for n in range(len(cases)):  # models in turn: a slow moment of the machine is everybody's
            took[:, n] = [ask(n) for ask in askers.values()]
    took = took[:, len(cases) // 10 :]  # the first ones warmed up
    same: Row = {"benchmark": "rankers", "feedback": None, "k": None, "settings": {}}
    unknown: Row = {"low": None, "high": None, "minutes": None}
    return [
        same | {"model": name, "metric": f"p{percent}_ms", "value": round(float(value), 3)} | unknown
        for percent in (50, 99)
        for name, value in zip(askers, np.percentile(took, percent, axis=1), strict=True)
    ]


def asker(
    model: Ranker, of: Trained, cases: Cases, shown: NDArray[np.int64], features: Mapping[str, FlatColumn]
) -> Callable[[int], float]:
    """Asks a model about a case, by its number; the milliseconds that it took."""
    histories = Histories(of.log, model.view, with_columns=True)
    starts, ends = histories.known_ranges(cases, model.max_length, lag_of(model))

    def ask(n: int) -> float:
        place = n * shown.shape[1] + np.arange(shown.shape[1])[None]
        read = {name: column_at(column, place) for name, column in features.items()}
        item, user = torch.from_numpy(shown[n : n + 1]), torch.from_numpy(cases.user[n : n + 1])
        candidates = Candidates(item, of.items.item_hash[item], torch.ones_like(item, dtype=torch.bool), read)
        moment, context = torch.from_numpy(cases.time_ms[n : n + 1]), contexts_of(of.log, cases.first_target[[n]])
        request = Request(moment, user, context, {key: column.take(user) for key, column in of.users.items()})
        past = histories.events.batch(starts[n : n + 1], ends[n : n + 1])
        began = time.perf_counter()
        model.predict(model.encode(past), request, candidates)
        return 1000 * (time.perf_counter() - began)

    return ask


def beside(rows: list[Row], path: Path) -> list[Row]:
    """New rows, and before them what a file holds of other models and figures."""
    measured = {(row["model"], row["metric"]) for row in rows}
    earlier = json.loads(path.read_text()) if path.is_file() else []
    return [row for row in earlier if (row["model"], row["metric"]) not in measured] + rows


if __name__ == "__main__":
    main()

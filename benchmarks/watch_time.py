"""Watch time foreseen in three ways, by one network: weighted logistic regression, approximate and exact, and Poisson.

    python benchmarks/watch_time.py
    python benchmarks/watch_time.py --events 1000000 --users 10000 --seeds 0 1 2 3 4

The log is the simulated service's; the watch time of what was shown is the part played of its length, 0 where it was
not clicked. Training and figures are of what was shown in lists: what was searched for is always watched, so that the
published form has no finite odds. The three rankers differ in the loss alone. Beside them stand the mean of all, each
item's own rate, and the oracle, which knows what the simulation expects. Rows go to `docs/results/watch_time.json`;
with `--part validation` nothing is written: this is how settings are chosen. A run that was killed goes on where it
stopped.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from argus import over_runs
from numpy.typing import NDArray
from quality import RESULTS
from record import commit, machine
from rich.console import Console
from rich.table import Table

from upnext.base.batches import FlatColumn
from upnext.base.schema import context_column, feedback_column
from upnext.commands.project import Project
from upnext.commands.run import run_stages
from upnext.commands.simulate import into_folder
from upnext.evaluation.feedback import feedback_figures, mean_of, predict_feedback
from upnext.evaluation.rates import Rates, RatesConfig
from upnext.evaluation.utility import utility_figures
from upnext.events.impressions import Impressions, pairs_within
from upnext.events.log import EventLog
from upnext.events.split import TEST, TRAIN, VALIDATION
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.features.vocabulary import Vocabulary
from upnext.models.build import load_any
from upnext.preparation.candidate_features import candidate_features
from upnext.simulation.files import as_table
from upnext.simulation.oracle import Oracle
from upnext.simulation.settings import SimulationConfig

Row = dict[str, Any]

WATCH = "watch_s"
LOSSES = {"approximate": "weighted_approximate", "exact": "weighted", "poisson": "poisson"}
AGGREGATES = [
    {"by": ["user", "item"]},
    {"by": ["user", "creator"], "what": "recency", "view": "watched"},
    {"by": ["user", "creator"], "what": "mean", "feedback": "click"},
    {"by": ["item"], "what": "mean", "feedback": WATCH},
    {"by": ["user"], "what": "mean", "feedback": WATCH},
]
SAMPLES = 500
PARTS = {"test": TEST, "validation": VALIDATION}


def main() -> None:
    """Simulate, train with each seed, measure, write the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--part", choices=PARTS, default="test")
    parser.add_argument("--runs", type=Path, default=Path("runs/watch-time"), help="the folder of everything made")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of the rows")
    asked, console = parser.parse_args(), Console()
    simulated = SimulationConfig(num_users=asked.users, num_items=asked.items, num_events=asked.events)
    folder = asked.runs / f"simulation-{asked.users}-{asked.items}-{asked.events}"
    source = with_watch_time(simulated, folder)
    runs = []
    for seed in asked.seeds:
        project = project_of(source, asked.runs / "work", seed, asked.epochs)
        run_stages(project, console, until="rank", resume=True)
        runs.append(measured(project, folder, PARTS[asked.part]))
    told = f"--users {asked.users} --items {asked.items} --events {asked.events} --epochs {asked.epochs}"
    head = {
        "dataset": "simulated",
        "variant": f"{asked.events:,} events",
        "protocol": "shown in lists, the last day",
        "command": f"python benchmarks/watch_time.py {told} --seeds {' '.join(map(str, asked.seeds))}",
        "commit": commit("benchmarks/watch_time.py"),
        "machine": machine(f"{torch.get_num_threads()} threads", packages=("torch",)),
    }
    rows = [head | over_runs(rows) for rows in zip(*runs, strict=True)]
    if asked.part == "test":
        (asked.results / "watch_time.json").write_text(json.dumps(rows, indent=1) + "\n")
    show(rows, console)


def with_watch_time(config: SimulationConfig, folder: Path) -> dict[str, Any]:
    """Simulate into a folder, add the watch time and whether it was a list, and describe the tables."""
    source = as_table(folder)
    path = folder / "watched.parquet"
    if not path.is_file():
        into_folder(config, folder)
        lengths = pl.read_parquet(folder / "items.parquet").select("item_id", "duration_s")
        events = pl.read_parquet(folder / "events.parquet").join(
            lengths, on="item_id", how="left", maintain_order="left"
        )
        watch, listed = pl.col("played") * pl.col("duration_s"), (pl.col("surface") != "search").cast(pl.Float32)
        events.with_columns(watch.alias(WATCH), listed.alias("listed")).drop("duration_s").write_parquet(path)
    contexts = source["contexts"] | {"listed": "numeric"}
    return source | {"path": str(path), "contexts": contexts, "feedback": {"click": "binary", WATCH: "amount"}}


def project_of(source: Mapping[str, Any], workspace: Path, seed: int, epochs: int) -> Project:
    """The three rankers, alike but for the loss."""
    model = {"view": "watched", "max_length": 20, "contexts": ["surface", "device", "hour"], "aggregates": AGGREGATES}
    training = {"seed": seed, "epochs": epochs, "patience": 2, "tokens_per_batch": 4000, "learning_rate": 2e-3}
    common = {"kind": "youtube", "view": "shown", "feedback": [WATCH], "model": model, "training": training}
    return Project.model_validate(
        {
            "workspace": workspace,
            "prepare": {
                "source": dict(source),
                "views": {"watched": f"{WATCH} > 0", "shown": "listed == 1"},
                "split": {"kind": "global_time", "validation": "1d", "test": "1d"},
            },
            "pretrain": {"popular": {"model": {"kind": "popular", "view": "watched"}}},
            "rank": {name: common | {"losses": {WATCH: {"loss": loss}}} for name, loss in LOSSES.items()},
        }
    )


def measured(project: Project, simulation: Path, which: int) -> list[Row]:
    """Every figure of what was shown in lists in one part of the split."""
    workspace = project.opened()
    artifact = workspace.current("log", "log")
    folder = artifact.folder
    log, part = EventLog.open(folder / "log"), np.load(folder / "split.npy")
    rows, trained = (np.flatnonzero(log.mask("shown") & (part == one)) for one in (which, TRAIN))
    items, users = Catalogue.load(folder).items, People.load(folder).features.columns
    column = log.rows.columns[feedback_column(WATCH)]
    counted = FlatColumn(column.values[trained], column.observed[trained])
    expected: dict[str, NDArray[np.float64]] = {}
    for name in LOSSES:
        model = load_any(workspace.current(f"model-{name}", "model").folder, items)
        features = candidate_features(project.rank[name].aggregates, log, rows, items.features, users)
        expected[name] = predict_feedback(model, log, rows, features, users=users)[WATCH]  # type: ignore[arg-type]
    for name, config in (("mean", RatesConfig(prior=None)), ("item rates", RatesConfig())):
        rates = Rates.fit(config, {WATCH: "amount"}, log.rows.item[trained], {WATCH: counted}, len(items))
        expected[name] = predict_feedback(rates, log, rows)[WATCH]
    expected["oracle"] = oracle(simulation, folder, log, rows)
    base = {WATCH: mean_of(column, trained)}
    found = [row for name, values in expected.items() for row in figures(name, log, rows, values, base)]
    minutes = {name: workspace.current(f"model-{name}", "model").manifest["metrics"]["seconds"] / 60 for name in LOSSES}
    return [row | {"minutes": round(minutes[row["model"]], 2) if row["model"] in minutes else None} for row in found]


def figures(
    name: str, log: EventLog, rows: NDArray[np.int64], expected: NDArray[np.float64], base: Mapping[str, float]
) -> list[Row]:
    """Error, calibration, and the order of each list by watch time."""
    found = feedback_figures(log, rows, {WATCH: expected}, base, SAMPLES)
    shown = Impressions.of(log, rows, {WATCH: 1.0}, None).with_partner()
    pairs, place = pairs_within(shown.group, shown.value), np.searchsorted(rows, shown.rows)
    found += utility_figures(expected[place], shown, pairs, log.rows.user[shown.rows], SAMPLES)
    head: Row = {"benchmark": "watch time", "feedback": WATCH, "k": None, "settings": {}, "model": name}
    return [head | {key: row[key] for key in ("metric", "value", "low", "high")} for row in found]


def oracle(simulation: Path, folder: Path, log: EventLog, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """The watch time that the simulation expects: of the part played, times the length."""
    known = Oracle.from_folder(simulation)
    users, items = (Vocabulary.load(folder / f"{name}.vocabulary.arrow") for name in ("users", "items"))
    starts, case = np.unique(log.request_start[rows], return_inverse=True)
    contexts = {}
    for name in ("surface", "device"):
        codes, names = (
            log.rows.columns[context_column(name)],
            Vocabulary.load(folder / f"context.{name}.vocabulary.arrow"),
        )
        contexts[name] = [str(names.external(code)) for code in codes.values[starts]]
    asked = [str(items.external(item)) for item in log.rows.item[rows]]
    played = known.expected_feedback(
        [str(users.external(user)) for user in log.rows.user[starts]],
        log.rows.time_ms[starts],
        **contexts,
        case=case,
        item_id=asked,
    )["played"]
    table = pl.read_parquet(simulation / "items.parquet")
    length = dict(zip(table["item_id"].to_list(), table["duration_s"].to_list(), strict=True))
    return played * np.array([length[item] for item in asked], np.float64)


def show(rows: Sequence[Row], console: Console) -> None:
    """Print models by figures."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    table = Table("model", *metrics)
    for model in dict.fromkeys(row["model"] for row in rows):
        of = {row["metric"]: row["value"] for row in rows if row["model"] == model}
        table.add_row(model, *(f"{of[metric]:.4f}" for metric in metrics))
    console.print(table)


if __name__ == "__main__":
    main()

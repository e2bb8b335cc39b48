"""How long a page takes whose candidates are ranked: retrieval, features, ranking and arrangement, when all is warm.

    python benchmarks/rank_latency.py --folder runs/rank_latency

A simulated service is published with ARGUS as the retriever, and with three rankers: ARGUS, boosted trees over twenty
aggregates, and a student of these trees over the same, as it is and compiled; all are trained briefly, for what they
know costs no time. Then one page after the other is asked for in the server's own process, without HTTP, each of
another user, and events are posted in between; rankers take turns, so that a slow moment of the machine is everybody's.
Rows go to docs/results/rank_latency.json.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is loaded

import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from record import commit, machine
from rich.console import Console

from upnext.base.ids import FIRST
from upnext.commands.project import Project, load_project
from upnext.commands.run import run_stages
from upnext.pipeline import publish
from upnext.serving.histories import LiveEvent
from upnext.serving.rank import num_candidates
from upnext.serving.recommend import Query
from upnext.serving.service import Service, ServiceSettings

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "rank_latency.json"
PERCENTILES = (50, 90, 99)
PACKAGES = ("torch", "lightgbm")
COMPILED = ", compiled"
RANKERS = ("argus", "trees", "student", f"student{COMPILED}")
WARM_UP = 50
"""Pages that do not count."""

PROJECT = """
workspace = "{folder}"

[simulate]
num_users = {users}
num_items = {items}
num_events = {events}
days = 28

[prepare.source]
kind = "simulated"

[prepare.views]
watched = "played >= 0.5 or like == 1"

[prepare.split]
kind = "global_time"
validation = "1d"
test = "1d"

[pretrain.argus.model]
kind = "argus"
width = 64
layers = 2
heads = 2
max_length = 128
dropout = 0.0

[pretrain.argus.tasks]
next_item_view = "watched"

[pretrain.argus.loss]
kind = "sampled"
num_in_batch = 256
num_drawn = 256

[pretrain.argus.training]
epochs = 1
tokens_per_batch = 4096

[aggregates]
counts = [
  { by = ["user"] },
  { by = ["user"], what = "recency" },
  { by = ["user"], what = "mean", feedback = "like" },
  { by = ["user"], what = "mean", feedback = "played", window = "7d" },
  { by = ["user", "item"] },
  { by = ["user", "item"], what = "recency" },
  { by = ["user", "creator"] },
  { by = ["user", "creator"], what = "mean", feedback = "like" },
  { by = ["user", "genres"], what = "mean", feedback = "played" },
  { by = ["item"] },
  { by = ["item"], window = "1d" },
  { by = ["item"], window = "7d" },
  { by = ["item"], what = "age" },
  { by = ["item"], what = "mean", feedback = "like" },
  { by = ["item"], what = "mean", feedback = "like", window = "7d" },
  { by = ["item"], what = "mean", feedback = "played" },
  { by = ["item"], what = "mean", feedback = "dislike" },
  { by = ["creator"], what = "mean", feedback = "like" },
  { by = ["creator"], window = "1d" },
  { by = ["item", "surface"], what = "mean", feedback = "played" },
]

[rank.trees]
kind = "boosted"
feedback = ["like", "played"]
aggregates = "counts"

[rank.trees.training]
trees = {trees}
learning_rate = 0.1

[examples.shown]
kind = "log"
label = "like"
aggregates = "counts"

[distill.student]
examples = "shown"
teacher = "trees"
folds = { count = 2 }
student = { kind = "mlp" }
losses = [{ kind = "label" }, { kind = "differences", weight = 0.3 }]
training = { epochs = 1 }

[publish]
retriever = "argus"
ranker = "{ranker}"
view = "watched"
num_candidates = {candidates}
utility = {utility}
page_context = { surface = "home" }
"""


def main() -> None:
    """Make the releases if need be, measure, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/rank_latency"), help="where the releases lie")
    parser.add_argument("--users", type=int, default=5000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--trees", type=int, default=200, help="the most of each feedback")
    parser.add_argument("--candidates", type=int, nargs="+", default=[84, 100, 500], help="of each row of a page")
    parser.add_argument("--pages", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-k", type=int, default=20)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    load_before, rows = os.getloadavg()[0], list[dict[str, Any]]()
    for candidates in arguments.candidates:
        for name, (variant, found) in measured(arguments, candidates).items():
            rows += as_rows(arguments, load_before, name, variant, found)
    arguments.results.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['model']:17} {row['variant']:50} {row['metric']:10} {row['value']:g}")


def as_rows(
    arguments: argparse.Namespace, load_before: float, ranker: str, variant: str, found: dict[str, float]
) -> list[dict[str, Any]]:
    """One row per figure, with everything needed to measure again."""
    names = ("users", "items", "events", "trees", "pages", "threads", "k")
    settings = {name: getattr(arguments, name) for name in names} | {"load_before": round(load_before, 1)}
    given = " ".join(f"--{name} {settings[name]}" for name in names if name != "k")
    whole = {
        "benchmark": "rank_latency",
        "dataset": f"simulated, {arguments.items:,} items, {arguments.events:,} events",
        "protocol": (
            "rankers in turn, one page after the other, each of another user, an event posted before each;"
            f" {arguments.k} items in each row; inside the server, without HTTP; the machine's load was"
            f" {load_before:.1f} before"
        ),
        "model": ranker,
        "settings": settings,
        "k": None,
        "low": None,
        "high": None,
        "seeds": 1,
        "minutes": None,
        "command": f"python benchmarks/rank_latency.py {given}",
        "commit": commit("benchmarks/rank_latency.py"),
        "machine": machine(f"{arguments.threads} thread{'s' if arguments.threads > 1 else ''}", packages=PACKAGES),
        "variant": variant,
    }
    return [whole | {"metric": metric, "value": round(value, 2)} for metric, value in found.items()]


def made(arguments: argparse.Namespace, ranker: str, candidates: int) -> Project:
    """Run the stages; what is there already is found."""
    sizes = {name: getattr(arguments, name) for name in ("folder", "users", "items", "events", "trees")}
    utility = "{ like = 1.0 }" if ranker == "student" else "{ like = 1.0, played = 0.5 }"
    text = PROJECT.replace("{ ", "{{ ").replace(" }", " }}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "project.toml"
        file.write_text(text.format(**sizes, ranker=ranker, candidates=candidates, utility=utility))
        project = load_project(file)
    assert project.publish is not None
    run_stages(project, Console(), until="distill", resume=True)
    publish.run(project.publish, project.opened())
    return project


def measured(arguments: argparse.Namespace, candidates: int) -> dict[str, tuple[str, dict[str, float]]]:
    """By ranker, what was ranked, and the milliseconds of pages."""
    services, found = dict[str, Service](), dict[str, tuple[str, dict[str, float]]]()
    with contextlib.ExitStack() as stack:
        for name in RANKERS:
            ranker = name.removesuffix(COMPILED)
            project = made(arguments, ranker, candidates)
            release = project.opened().current("release", "release").folder
            if name != ranker:  # a store is opened once
                release = Path(shutil.copytree(release, stack.enter_context(_folder()) / release.name))
            cache = project.workspace / "compiled" if name != ranker else None
            settings = ServiceSettings(threads=arguments.threads, compiled=cache)
            services[name] = Service(release, stack.enter_context(_folder()), settings)
            stack.callback(services[name].close)
        for name, took in asyncio.run(_ask(services, arguments)).items():
            _, parts = services[name].histories.assortment.rows
            wanted = num_candidates(services[name].release.settings, arguments.k)
            ranked = sum(min(wanted, len(part)) for part in parts.sets)
            variant = f"{candidates} candidates a row, {len(parts.sets)} rows: {ranked:,} in all"
            found[name] = variant, {f"p{of}_ms": float(np.percentile(took, of)) for of in PERCENTILES}
    return found


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


async def _ask(services: Mapping[str, Service], arguments: argparse.Namespace) -> dict[str, list[float]]:
    """The milliseconds of each page after those that warm up, by ranker."""
    generator, took = np.random.default_rng(0), {name: list[float]() for name in services}
    (first, *_) = services.values()
    users, items = first.release.users.ids, first.release.catalogue.vocabulary.ids
    for number in range(arguments.pages + WARM_UP):
        poster, asker = (users[int(generator.integers(len(users)))] for _ in range(2))
        item = items[int(generator.integers(len(items) - FIRST))]
        now = time.time_ns() // 1_000_000
        for name, service in services.items():
            await service.accept([LiveEvent(poster, item, now, f"e{number}", context={"surface": "home"})])
            page, latency_ms = await service.recommend(Query(asker, now + 1, arguments.k, {"surface": "home"}))
            assert page.fallback_reason is None
            took[name].append(latency_ms)
    return {name: of[WARM_UP:] for name, of in took.items()}


if __name__ == "__main__":
    main()

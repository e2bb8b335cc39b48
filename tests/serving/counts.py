"""A service whose ranker is trees over counts, and what its people do after it is published."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.serving.projects import Published
from upnext.base.artifacts import Artifact
from upnext.commands.project import load_project
from upnext.pipeline import prepare, pretrain, publish, rank

START_MS = 1_700_000_000_000
DAY_MS = 86_400_000
NUM_ITEMS, NUM_USERS = 60, 90
DAYS = 10
"""So long is the log; what follows is posted."""

AGGREGATES = [
    '{ by = ["user"] }',
    '{ by = ["user"], what = "recency", view = "liked" }',
    '{ by = ["user"], what = "mean", feedback = "played", window = "3d" }',
    '{ by = ["user", "item"] }',
    '{ by = ["user", "author"], what = "mean", feedback = "like" }',
    '{ by = ["user", "surface"], what = "age" }',
    '{ by = ["item"] }',
    '{ by = ["item"], window = "2d" }',
    '{ by = ["item"], what = "age" }',
    '{ by = ["item"], what = "recency" }',
    '{ by = ["item"], what = "mean", feedback = "played" }',
    '{ by = ["item"], what = "mean", feedback = "like", window = "2d" }',
    '{ by = ["author"], what = "mean", feedback = "like" }',
    '{ by = ["item", "surface"], view = "liked" }',
    '{ by = ["genres", "surface"], what = "mean", feedback = "played", window = "12h" }',
]

PROJECT = """
workspace = "{folder}/workspace"

[prepare.source]
kind = "table"
path = "{folder}/events.csv"
user = "who"
item = "what"
time = "when"
time_unit = "ms"
request = "shown"
interaction = "event"
contexts = { surface = "categorical", battery = "numeric" }
feedback = { like = "binary", played = "fraction" }

[prepare.source.items]
path = "{folder}/items.csv"
item = "what"
collection = "shelf"
features = { author = "categorical", genres = "multi", length = "numeric" }

[prepare.source.users]
path = "{folder}/users.csv"
user = "who"
features = { country = "categorical" }

[prepare.views]
liked = "like == 1"

[prepare.split]
kind = "global_time"
validation = "1d"
test = "1d"

[pretrain.now.model]
kind = "recently_popular"

[rank.trees]
kind = "boosted"
aggregates = [{aggregates}]
utility = { like = 1.0 }

[rank.trees.training]
trees = 20
least_in_leaf = 20

[publish]
retriever = "now"
ranker = "trees"
num_candidates = 40
exclude_history = false
utility = { like = 1.0, played = 0.5 }
page_context = { surface = "home" }
actions = { play = { played = 1.0 } }
"""


def user_id(number: int) -> str:
    return f"u{number}"


def rows_between(rng: np.random.Generator, count: int, start_ms: int, end_ms: int, users: int) -> list[dict[str, Any]]:
    """Requests of two to four items each, in the order of time; some instants are shared."""
    rows: list[dict[str, Any]] = []
    moments = np.sort(rng.integers(start_ms // 60_000, end_ms // 60_000, count // 3)) * 60_000
    for number, moment in enumerate(moments.tolist()):
        who, surface = int(users * rng.random() ** 2), str(rng.choice(["home", "search"]))
        for item in rng.choice(NUM_ITEMS, int(rng.integers(2, 5)), replace=False).tolist():
            likes = 0.1 + 0.6 * (item % 7 == who % 7) + 0.2 * (surface == "home")
            rows.append(
                {
                    "who": user_id(who),
                    "what": f"i{item:02d}",
                    "when": moment + 1000 * int(rng.integers(0, 3)),
                    "shown": f"{start_ms}-{number}",
                    "event": f"{start_ms}-{number}-{item}",
                    "surface": surface,
                    "battery": round(float(rng.random()), 3) if rng.random() < 0.8 else "",
                    "like": int(rng.random() < likes),
                    "played": round(float(rng.random()), 3) if rng.random() < 0.7 else "",
                }
            )
    return rows


def publish_counts(folder: Path) -> Published:
    """The log of ten days, published with trees as the ranker."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows_between(np.random.default_rng(3), 6000, START_MS, START_MS + DAYS * DAY_MS, NUM_USERS)
    amended = [row | {"when": row["when"] + 500, "like": 1, "played": "", "battery": ""} for row in rows[::20]]
    _write(folder / "events.csv", rows + amended)
    items = [
        {
            "what": f"i{number:02d}",
            "shelf": ("Odd", "Even")[number % 2],
            "author": f"a{number % 7}" if number % 11 else "",
            "genres": "|".join(("g1", "g2", "g3")[number % 4 :]),
            "length": number * 1.5,
        }
        for number in range(NUM_ITEMS)
    ]
    _write(folder / "items.csv", items)
    _write(folder / "users.csv", [{"who": user_id(n), "country": "abc"[n % 3]} for n in range(0, NUM_USERS, 2)])
    file = folder / "project.toml"
    file.write_text(PROJECT.replace("{folder}", str(folder)).replace("{aggregates}", ", ".join(AGGREGATES)))
    published = Published(file, folder / "workspace")
    make(published)
    return published


def make(published: Published, settings: Sequence[str] = ()) -> None:
    """Prepare, train, rank and publish."""
    project = load_project(published.file, [f"workspace={published.workspace}", *settings])
    workspace = project.opened()
    prepare.run(project.prepare, workspace)
    for name, config in project.pretrain.items():
        pretrain.run(config, workspace, name)
    for name, ranker in project.rank.items():
        rank.run(ranker, workspace, name)
    assert project.publish is not None
    publish.run(project.publish, workspace)


def prepared_with_posted(published: Published) -> Artifact:
    """The log with what was posted: the same numbers for everybody, and new ones behind."""
    project = load_project(published.file, [f"workspace={published.workspace}", "prepare.live=true"])
    return prepare.run(project.prepare, project.opened())


def alone(published: Published, folder: Path) -> Published:
    """The same project with a live store and pointers of its own."""
    return Published(published.file, published.lend(folder))


def posted(row: dict[str, Any], event_id: str) -> dict[str, Any]:
    """A row of the log as a client posts it."""
    feedback = {name: float(row[name]) for name in ("like", "played") if row[name] != ""}
    context = {name: row[name] for name in ("surface", "battery") if row[name] != ""}
    return {
        "user_id": row["who"],
        "item_id": row["what"],
        "time_ms": row["when"],
        "event_id": event_id,
        "request_id": row["shown"],
        "context": context,
        "feedback": feedback,
    }


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)

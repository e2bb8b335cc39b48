"""A small log as frames, and the project file that reads the same log from files."""

import polars as pl

from upnext import Columns

COLUMNS: Columns = {
    "user": "user",
    "item": "item",
    "time": "time",
    "time_unit": "s",
    "request": "visit",
    "contexts": ["surface"],
    "feedback": {"played": "fraction"},
}
VIEWS = {"watched": "played >= 0.5"}
SPLIT = {"kind": "global_time", "validation": "1d", "test": "1d"}
PUBLISH = {"exclude_history": False}

PROJECT = """
workspace = "{folder}/work"

[prepare.source]
kind = "table"
path = "{folder}/events.{form}"
user = "user"
item = "item"
time = "time"
time_unit = "s"
request = "visit"
contexts = ["surface"]
items = {{ path = "{folder}/items.{form}", item = "item" }}
[prepare.source.feedback]
played = "fraction"

[prepare.views]
watched = "played >= 0.5"

[prepare.split]
kind = "global_time"
validation = "1d"
test = "1d"

[pretrain.sasrec.model]
kind = "sasrec"
view = "watched"
width = 8
layers = 1
max_length = 10
[pretrain.sasrec.training]
epochs = 2
seed = 3

[pretrain.argus.model]
kind = "argus"
view = "watched"
width = 8
layers = 1
max_length = 10
target_attention = true
embeddings = {{ kind = "hashed", rows = 64 }}
[pretrain.argus.tasks.feedback]
played = {{ loss = "squared" }}
[pretrain.argus.training]
epochs = 2
seed = 3

[pretrain.popular.model]
kind = "popular"
view = "watched"

[pretrain.recently-popular.model]
kind = "recently_popular"
view = "watched"
window = "36h"

[evaluate]
k = [3]
bootstrap_samples = 50

[publish]
retriever = "sasrec"
exclude_history = false
"""


def events() -> pl.DataFrame:
    """Forty users who walk around twelve items for ten days; every third event was hardly played, some not seen."""
    rows = [
        {
            "user": user,
            "item": "abcdefghijkl"[(user + step) % 12],
            "time": 1_700_000_000 + step * 86_400 + user * 60,
            "visit": None if step % 2 else f"{user}-{step}",
            "surface": ("home", "search")[step % 2],
            "played": None if (user + step) % 7 == 0 else 0.1 if (user + step) % 3 == 0 else 0.9,
        }
        for user in range(40)
        for step in range(10)
    ]
    return pl.DataFrame(rows)


def items() -> pl.DataFrame:
    """Their titles; nobody met the last one, and one has no title."""
    letters = "abcdefghijklm"
    titles = [None if item == "c" else f"Title {item.upper()}" for item in letters]
    return pl.DataFrame({"item": list(letters), "title": titles, "collection": ["One", None] * 6 + ["One"]})

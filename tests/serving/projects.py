"""Small projects, published through the real stages: a simulated service, odd string ids, and integer ids."""

import csv
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from upnext.base.artifacts import Workspace
from upnext.commands import simulate
from upnext.commands.project import load_project
from upnext.pipeline import prepare, pretrain, publish

TINY = """
[simulate]
num_users = 150
num_items = 120
num_events = 6000
days = 14

[prepare.source]
kind = "simulated"

[prepare.views]
watched = "played >= 0.5 or like == 1"

[prepare.split]
kind = "global_time"
validation = "1d"
test = "2d"

[pretrain.sasrec.model]
kind = "sasrec"
view = "watched"
width = 16
layers = 1
max_length = 20

[pretrain.sasrec.training]
epochs = 1

[pretrain.popular-now.model]
kind = "recently_popular"
view = "watched"

[publish]
title = "Tiny"
retriever = "sasrec"
popular = "popular-now"
view = "watched"
hide = "dislike == 1"

[publish.actions]
play = { played = 1.0 }
like = { like = 1.0 }
dislike = { dislike = 1.0 }
"""

STRANGE = """
[prepare.source]
kind = "table"
path = "{folder}/events.csv"
user = "who"
item = "what"
time = "when"
time_unit = "s"
contexts = { age = "numeric" }
feedback = { stars = "amount", dislike = "binary" }
items = { path = "{folder}/items.csv", item = "what", title = "title" }

[prepare.split]
kind = "leave_last_out"

[pretrain.popular.model]
kind = "popular"

[publish]
title = "Strange <b>names</b>"
retriever = "popular"
hide = "dislike == 1"
actions = { like = { stars = 5.0 }, dislike = { dislike = 1.0 } }
"""

NUMBERS = """
[prepare.source]
kind = "table"
path = "{folder}/events.csv"
user = "user"
item = "item"

[prepare.split]
kind = "leave_last_out"

[pretrain.popular.model]
kind = "popular"

[publish]
retriever = "popular"
"""

SHELVES = """
[prepare.source]
kind = "table"
path = "{folder}/events.csv"
user = "who"
item = "what"
items = { path = "{folder}/items.csv", item = "what", title = "title", genres = "genres", collection = "shelf" }

[prepare.split]
kind = "leave_last_out"

[pretrain.popular.model]
kind = "popular"

[publish]
title = "عنوان 🎬"
retriever = "popular"
"""

MARKUP = "<img src=x onerror=\"document.body.dataset.hacked='yes'\">"
ODD_TITLES = [
    "Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz",
    "سيدة البحر والقمر",
    "👩‍👩‍👧‍👦🎬🍿",
    "A",
    "\"Quoted\" & 'single' <b>bold</b>",
    "A title that goes on and on, for it has much to say of very little, and then some more (1999)",
    "\u202eright to left\u202c",
    "Übermut: Die Rückkehr",
]
NUM_SHELVES = 30
STRANGE_ITEMS = ["a/b", "/lead", "q?x=1", "p&q", "é", "100%", "a%2Fb", "a b", "#hash", "<script>", "tail/", "history"]
STRANGE_USERS = ["ann/lee", "zoë", "a&b=c", "50%", "?", "x/history", "+plus"]
LARGE = 2**53 + 1


@dataclass(frozen=True)
class Published:
    """A project whose release is made: its file and its workspace."""

    file: Path
    workspace: Path

    @property
    def release(self) -> Path:
        return Workspace(self.workspace).current("release", "release").folder

    def lend(self, folder: Path) -> Path:
        """Make a workspace with the same artifacts, and a live store of its own."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "artifacts").symlink_to(self.workspace / "artifacts")
        shutil.copytree(self.workspace / "current", folder / "current")
        return folder


def publish_project(folder: Path, settings: str) -> Published:
    """Run the stages of a project file up to publish."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "project.toml"
    file.write_text(f'workspace = "{folder}/workspace"\n' + settings.replace("{folder}", str(folder)))
    project = load_project(file)
    workspace = project.opened()
    if project.simulate is not None:
        simulate.into_workspace(project.simulate, workspace)
    prepare.run(project.prepare, workspace)
    for name, config in project.pretrain.items():
        pretrain.run(config, workspace, name)
    assert project.publish is not None
    publish.run(project.publish, workspace)
    return Published(file, folder / "workspace")


def publish_tiny(folder: Path) -> Published:
    """A simulated service with a SASRec and what is popular now."""
    return publish_project(folder, TINY)


def publish_strange(folder: Path, items: Sequence[str] = STRANGE_ITEMS, settings: str = STRANGE) -> Published:
    """String ids that paths and markup trip over; the item number n has n events and more, so that counts differ."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["who,what,when,age,stars,dislike"]
    for number, item in enumerate(items):
        rows += [f"{user},{item},{1_700_000_000 + 60 * number},30.5,4,0" for user in STRANGE_USERS[: number % 3 + 1]]
        rows += [f"crowd {n},{item},{1_700_000_000 + 60 * number},41,3,0" for n in range(number + 1)]
    (folder / "events.csv").write_text("\n".join(rows) + "\n")
    titles = [MARKUP.replace('"', '""') if item == "<script>" else f"Title of {item}" for item in items]
    (folder / "items.csv").write_text(
        "what,title\n" + "".join(f'{item},"{title}"\n' for item, title in zip(items, titles, strict=True))
    )
    return publish_project(folder, settings)


def publish_numbers(folder: Path) -> Published:
    """Integer ids, some beyond 2^53, in a log without a clock, contexts or feedback."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["user,item", *(f"{user},{LARGE + item}" for user in (7, -8, LARGE) for item in range(abs(user) % 5 + 2))]
    rows += [f"{100 + n},{LARGE + item}" for item in (6, 9) for n in range(5)]
    (folder / "events.csv").write_text("\n".join(rows) + "\n")
    return publish_project(folder, NUMBERS)


def publish_shelves(folder: Path) -> Published:
    """Many collections, ids of one letter, and titles that burst a poster; a log without feedback."""
    folder.mkdir(parents=True, exist_ok=True)
    items = [chr(0x4E00 + number) for number in range(4 * NUM_SHELVES)]
    rows = ["who,what", *(f"{user},{item}" for user in ("ann", "bob", "cem") for item in items[:: len(user) + 4])]
    (folder / "events.csv").write_text("\n".join(rows + [f"dot,{item}" for item in items]) + "\n")
    with (folder / "items.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["what", "title", "genres", "shelf"])
        for number, item in enumerate(items):
            title = ODD_TITLES[number] if number < len(ODD_TITLES) else f"Volume {number}"
            table.writerow([item, title, "<i>Comedy</i>|ドラマ", f"Shelf {number % NUM_SHELVES:02d} <hr>"])
    return publish_project(folder, SHELVES)

"""Small projects, published through the real stages: a simulated service, odd string ids, and integer ids."""

import csv
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from upnext.base.artifacts import Workspace
from upnext.commands import simulate
from upnext.commands.project import load_project
from upnext.pipeline import finetune, prepare, pretrain, publish

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
page_context = { surface = "home" }

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


def publish_other(folder: Path, tiny: Published) -> Published:
    """The tiny service with another retriever and another title."""
    lent = tiny.lend(folder)
    text = tiny.file.read_text().replace(str(tiny.workspace), str(lent)).replace('title = "Tiny"', 'title = "Other"')
    file = lent / "project.toml"
    file.write_text(text.replace('retriever = "sasrec"', 'retriever = "popular-now"'))
    project = load_project(file)
    assert project.publish is not None
    publish.run(project.publish, project.opened())
    return Published(file, lent)


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


HOURS = """
[prepare.source]
kind = "table"
path = "{folder}/events.csv"
user = "who"
item = "what"
time = "when"
time_unit = "s"
contexts = { hour = "categorical", surface = "categorical" }
feedback = { like = "binary", dislike = "binary" }

[prepare.source.items]
path = "{folder}/items.csv"
item = "what"
collection = "shelf"
features = { family = "categorical" }

[prepare.views]
liked = "like == 1"

[prepare.split]
kind = "global_time"
validation = "3h"
test = "3h"

[pretrain.argus.model]
kind = "argus"
width = 16
layers = 1
max_length = 20
dropout = 0.0
embeddings = { kind = "hashed", rows = 512 }

[pretrain.argus.tasks]
next_item = 0.2

[pretrain.argus.training]
epochs = 18
patience = 18
tokens_per_batch = 128
warmup_steps = 10
learning_rate = 0.02

[pretrain.sasrec.model]
kind = "sasrec"
view = "liked"
width = 8
layers = 1
max_length = 10

[pretrain.sasrec.training]
epochs = 1

[publish]
retriever = "argus"
ranker = "argus"
view = "liked"
num_candidates = 50
utility = { like = 1.0 }

[publish.surfaces]
critics = { like = -1.0 }
both = { like = 1.0, dislike = -0.5 }
"""


def publish_hours(folder: Path) -> Published:
    """A service whose truth is known: at 08 h day titles are liked, at 21 h night titles, nine times in ten.

    What is shown depends on what was shown before and not on the hour: only feedback tells of the taste.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    rows = ["who,what,when,hour,surface,like,dislike"]
    for user in range(100):
        item, left = int(rng.integers(40)), set(range(40))
        for step in range(20):
            item = (item + 7) % 40 if (item + 7) % 40 in left and rng.random() < 0.8 else int(rng.choice(sorted(left)))
            left.remove(item)
            at_night = rng.random() < 0.5
            like = int(rng.random() < (0.9 if at_night == bool(item % 2) else 0.1))
            dislike = int(not like and rng.random() < 0.5)
            hour, surface = ("21", "08")[not at_night], ("home", "critics")[step % 2]
            rows.append(
                f"u{user:02d},i{item:02d},{1_700_000_000 + 3600 * step + user},{hour},{surface},{like},{dislike}"
            )
    (folder / "events.csv").write_text("\n".join(rows) + "\n")
    titles = [f"i{item:02d},{('day', 'night')[item % 2]},{('Even', 'Odd')[item % 3 == 0]}" for item in range(40)]
    (folder / "items.csv").write_text("\n".join(["what,family,shelf", *titles]) + "\n")
    return publish_project(folder, HOURS)


TOWERS = """
[finetune.towers]
kind = "pairwise"
from = "argus"
width = 8
lag = "2h"
window = "2h"
utility = { like = 1.0 }

[finetune.towers.training]
epochs = 4
tokens_per_batch = 200
learning_rate = 0.01
"""


def publish_towers(folder: Path, hours: Published) -> Published:
    """The service of `publish_hours` with two towers, whose user vectors are computed ahead of time."""
    workspace = hours.lend(folder)
    text = hours.file.read_text().partition("[publish]")[0].replace(str(hours.workspace), str(workspace))
    file = folder / "project.toml"
    file.write_text(text + TOWERS + '[publish]\nretriever = "towers"\nview = "liked"\n')
    project = load_project(file)
    for name, config in project.finetune.items():
        finetune.run(config, project.encoder_of(config), project.opened(), name)
    assert project.publish is not None
    publish.run(project.publish, project.opened())
    return Published(file, workspace)

"""Side tables from a project's file to the request that a served model reads, through the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.end_to_end.test_tiny_project import succeed, upnext
from tests.reference.side_features import hashed
from upnext.base.artifacts import Workspace
from upnext.base.batches import Request, SequenceBatch, State
from upnext.evaluation.cases import find_cases
from upnext.evaluation.ranking import retriever_scores
from upnext.events.log import EventLog
from upnext.events.split import TEST
from upnext.features.people import People
from upnext.serving.release import Release
from upnext.serving.retrieve import make_request

PROJECT = """
workspace = "{folder}/work"

[prepare]
allow_leaks = {allowed}

[prepare.source]
kind = "table"
path = "{folder}/log.csv"
user = "user"
item = "item"
time = "time"
time_unit = "s"

[prepare.source.items]
path = "{folder}/items.jsonl"
item = "id"
title = "name"
features = {{ author = "categorical", tags = "multi", minutes = "numeric", title = "text", look = "vector"{more} }}

[prepare.source.users]
path = "{folder}/users.csv"
user = "who"
features = {{ age = "numeric", likes = {{ column = "genres", kind = "multi", separator = ";" }} }}

[prepare.split]
kind = "global_time"
validation = "1d"
test = "2d"

[pretrain.popular.model]
kind = "popular"

[publish]
retriever = "popular"
"""

ITEMS = 120


def write_project(folder: Path, more: str = "", allowed: str = "[]") -> Path:
    """Sixty users meet 120 items for ten days; `plays` counts all of it."""
    rng = np.random.default_rng(0)
    item = rng.choice(ITEMS, 6000, p=(weights := rng.pareto(1.5, ITEMS) + 0.1) / weights.sum())
    lines = [f"u{user},{item[row]},{1_700_000_000 + row * 144}" for row, user in enumerate(rng.integers(60, size=6000))]
    (folder / "log.csv").write_text("\n".join(["user,item,time", *lines]) + "\n")
    plays = np.bincount(item, minlength=ITEMS)
    rows = [
        {
            "id": number,
            "name": f"Film {number}",
            "author": 2**53 + number // 2,
            "tags": [f"t{number % 3}", f"t{number % 5}"],
            "minutes": None if number == 7 else float(rng.integers(20, 200)),
            "look": [number / 10, 1.0],
            "plays": int(plays[number]),
        }
        for number in range(ITEMS)
    ]
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    people = [f"u{number},{'' if number == 3 else 20 + number},{'a;b' if number % 2 else ''}" for number in range(59)]
    (folder / "users.csv").write_text("\n".join(["who,age,genres", *people]) + "\n")
    file = folder / "project.toml"
    file.write_text(PROJECT.format(folder=folder, more=more, allowed=allowed))
    return file


def test_from_the_file_to_the_request(tmp_path: Path) -> None:
    succeed("run", write_project(tmp_path), "--until", "publish")
    workspace = Workspace(tmp_path / "work")
    log, release = workspace.current("log", "log"), Release.load(workspace.current("release", "release").folder)

    kinds = {"author": "categorical", "tags": "multi", "minutes": "numeric", "title": "text", "look": "vector"}
    assert release.schema.item_features == kinds
    assert release.schema.user_features == {"age": "numeric", "likes": "multi"}
    items = release.catalogue.items
    assert {name: tuple(column.values.shape[1:]) for name, column in items.features.items()} == {
        "author": (),
        "tags": (2,),
        "minutes": (),
        "title": (10,),
        "look": (2,),
    }
    seven, eight = (release.catalogue.vocabulary.dense(number) for number in (7, 8))
    assert int(items.features["author"].values[seven]) == hashed(str(2**53 + 3))
    assert not items.features["minutes"].observed[seven]
    assert items.features["tags"].values[eight].tolist() == [hashed("t2"), hashed("t3")]
    assert items.features["look"].values[eight].tolist() == pytest.approx([0.8, 1.0])

    dense = np.array([release.users.dense(user) for user in ("u1", "u2", "u3", "u59", "nobody")])
    request = make_request(release, np.zeros(5, np.int64), dense)
    assert request.features["age"].observed.tolist() == [True, True, False, False, False]
    assert request.features["likes"].observed.any(1).tolist() == [True, False, True, False, False]
    assert request.features["likes"].values[0].tolist() == [hashed("a"), hashed("b")]
    people = People.load(log.folder)
    assert people.table.column("age").to_pylist()[int(dense[1]) - 2] == 22
    assert torch.equal(people.features.columns["age"].values, release.people.features.columns["age"].values)


class ByAge:
    """A retriever that scores every item by the age of who asks."""

    view, max_length = "all", 1

    def encode(self, histories: SequenceBatch) -> State:
        return State({"none": torch.zeros(len(histories), 1)})

    def score(self, state: State, request: Request, items: torch.Tensor) -> torch.Tensor:
        return request.features["age"].values[:, None].expand(-1, items.shape[1]).clone()

    def top_k(
        self, state: State, request: Request, k: int, allowed: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError


def test_evaluation_asks_with_the_features_of_its_users(tmp_path: Path) -> None:
    succeed("prepare", write_project(tmp_path))
    folder = Workspace(tmp_path / "work").current("log", "log").folder
    log, people = EventLog.open(folder / "log"), People.load(folder)
    cases = find_cases(log, np.load(folder / "split.npy"), TEST, "all")
    scores = retriever_scores(ByAge(), log, cases, 5, user_features=people.features.columns)
    some = np.arange(0, len(cases), 7)
    expected = people.features.columns["age"].values[cases.user[some]]
    assert len(expected.unique()) > 20
    assert scores(some)[:, 3].tolist() == expected.tolist()


def about_items(folder: Path) -> tuple[str, int]:
    """What the audit of the log in use says of the item table."""
    log = Workspace(folder / "work").current("log", "log")
    findings = json.loads((log.folder / "audit.json").read_text())
    (found,) = [finding for finding in findings if finding["check"] == "columns of items"]
    return found["level"], found["count"]


def test_a_count_of_the_whole_log_is_refused_until_it_is_allowed(tmp_path: Path) -> None:
    done = upnext("prepare", write_project(tmp_path, ', plays = "numeric"'))
    said = " ".join(done.stderr.split())
    assert done.returncode == 2
    assert "the item feature 'plays' looks like an aggregate of the future" in said
    assert 'prepare.allow_leaks = ["plays"]' in said
    succeed("prepare", write_project(tmp_path, ', plays = "numeric"', '["plays"]'))
    assert about_items(tmp_path) == ("note", 1)
    succeed("prepare", write_project(tmp_path))  # it is in the table, and no feature
    assert about_items(tmp_path) == ("warning", 1)
    done = upnext("prepare", write_project(tmp_path, allowed='["playz"]'))
    assert (done.returncode, "allow_leaks names 'playz'" in done.stderr) == (2, True)


def test_what_is_left_out_is_no_feature(tmp_path: Path) -> None:
    file = write_project(tmp_path, ', plays = "numeric"')
    succeed("prepare", file, "--set", 'prepare.leave_out=["plays"]')
    schema = Workspace(tmp_path / "work").current("log", "log").manifest["metrics"]["schema"]
    assert "plays" not in schema["item_features"]
    assert len(schema["item_features"]) > 0
    assert about_items(tmp_path)[0] != "warning"
    done = upnext("prepare", file, "--set", 'prepare.leave_out=["playz"]')
    assert (done.returncode, "prepare.leave_out names 'playz'; the features" in done.stderr) == (2, True)

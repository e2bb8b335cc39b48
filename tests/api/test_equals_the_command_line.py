"""The same log and settings through Python and through the command line leave the same artifacts and answers."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from litestar.testing import TestClient
from typer.testing import CliRunner

import upnext
from tests.api.logs import COLUMNS, PROJECT, PUBLISH, SPLIT, VIEWS, events, items
from tests.serving.asking import post
from tests.serving.projects import Published
from upnext.api import Estimator
from upnext.base.artifacts import Workspace
from upnext.cli import app
from upnext.serving.app import create_app
from upnext.serving.service import Service

USERS = [7, 39, 0, 12345]


def upnext_command(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


@dataclass
class Both:
    """One log, prepared twice; the project's workspace has gone through every stage."""

    file: Path
    workspace: Workspace
    log: upnext.EventLog


@pytest.fixture(scope="module", params=["parquet", "csv"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder = tmp_path_factory.mktemp(request.param)
    for name, frame in (("events", events()), ("items", items())):
        getattr(frame, f"write_{request.param}")(folder / f"{name}.{request.param}")
    file = folder / "project.toml"
    file.write_text(PROJECT.format(folder=folder, form=request.param))
    upnext_command("run", file, "--until", "publish")
    log = upnext.EventLog.from_frame(events(), COLUMNS, items=items(), views=VIEWS, split=SPLIT)
    return Both(file, Workspace(folder / "work"), log)


SASREC: dict[str, Any] = {"view": "watched", "width": 8, "layers": 1, "max_length": 10}
ARGUS: dict[str, Any] = SASREC | {
    "target_attention": True,
    "embeddings": {"kind": "hashed", "rows": 64},
    "tasks": {"feedback": {"played": {"loss": "squared"}}},
}
ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "sasrec": lambda: upnext.SASRec(**SASREC, training={"epochs": 2, "seed": 3}, publish=PUBLISH),
    "argus": lambda: upnext.ARGUS(**ARGUS, training={"epochs": 2, "seed": 3}, publish=PUBLISH),
    "popular": lambda: upnext.Popular(view="watched", publish=PUBLISH),
    "recently-popular": lambda: upnext.RecentlyPopular(view="watched", window="36h", publish=PUBLISH),
}


def test_the_log_holds_the_same_bytes(both: Both):
    ours, theirs = both.log.artifact, both.workspace.current("log", "log")
    tables = [pa.ipc.open_file(artifact.folder / "items.arrow").read_all() for artifact in (ours, theirs)]
    assert tables[0].equals(tables[1])  # Parquet leaves other bytes than a frame where text is missing
    files = [artifact.manifest["files"] | {"items.arrow": None} for artifact in (ours, theirs)]
    assert files[0] == files[1]
    assert ours.manifest["metrics"] == theirs.manifest["metrics"]
    assert ours.manifest["schema"] == theirs.manifest["schema"]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_weights_metrics_and_recommendations_are_the_same(both: Both, name: str):
    model = ESTIMATORS[name]().fit(both.log)
    of_stage = both.workspace.current(f"model-{name}", "model")
    for file in ("weights.safetensors", "model.json"):
        assert model.artifact.manifest["files"][file] == of_stage.manifest["files"][file]

    rows = json.loads((both.workspace.current("report", "report").folder / "metrics.json").read_text())
    figures = model.evaluate(both.log, protocol={"k": [3], "bootstrap_samples": 50})
    assert figures.to_dicts() == [row for row in rows if row["model"] == name]

    upnext_command("publish", both.file, "--set", f"publish.retriever={name}")
    recommended = model.recommend(USERS, k=4)
    assert recommended.to_dicts() == answers(both)
    loaded = upnext.load(both.workspace.root)
    assert loaded.recommend(USERS, k=4).equals(recommended)
    assert upnext.load(both.workspace.current("release", "release").folder).recommend(USERS, k=4).equals(recommended)


def answers(both: Both) -> list[dict[str, Any]]:
    """What `upnext recommend` prints in the row For you, as rows of a table."""
    options = [part for user in USERS for part in ("--user", str(user))]
    found = []
    for line in upnext_command("recommend", both.workspace.root, "-k", 4, "--json", *options).splitlines():
        page = json.loads(line)
        for rank, item in enumerate(page["rows"][0]["items"], 1):
            head = {"user_id": page["user_id"], "rank": rank, "item_id": item["item_id"], "title": item["title"]}
            found.append(head | {"score": item["score"], "is_known": page["is_known"]})
    return found


def test_a_workspace_of_the_command_line_is_opened_and_left_as_it_is(both: Both):
    before = {path.name: path.read_text() for path in (both.workspace.root / "current").iterdir()}
    log = upnext.EventLog.open(both.workspace.root)
    assert log.artifact.name == both.workspace.current("log", "log").name
    model = upnext.SASRec(**SASREC, training={"epochs": 1}).fit(log)
    assert model.artifact.folder.parent == both.workspace.root / "artifacts"
    assert model.evaluate(log).height
    after = {path.name: path.read_text() for path in (both.workspace.root / "current").iterdir()}
    assert after == before
    found = ESTIMATORS["popular"]().fit(log)
    assert found.artifact.name == both.workspace.current("model-popular", "model").name


def test_what_was_posted_counts_in_a_workspace(tiny: Published, tmp_path: Path):
    workspace = tiny.lend(tmp_path / "work")
    assert not upnext.load(workspace).recommend(["somebody"])["is_known"].any()
    item = upnext.load(workspace).recommend(["somebody"], k=1)["item_id"].item()
    service = Service(tiny.release, workspace / "live")
    with TestClient(create_app(service)) as client:
        post(client, {"user_id": "somebody", "item_id": item, "feedback": {"played": 1.0}})
    service.close()
    recommended = upnext.load(workspace).recommend(["somebody"])
    assert recommended["is_known"].all()
    assert item not in recommended["item_id"]


def test_the_oracle_of_a_simulated_log_is_there(tiny: Published):
    model = upnext.Popular(view="watched").fit(upnext.EventLog.open(tiny.workspace))
    figures = model.evaluate(protocol={"k": [5], "bootstrap_samples": 10})
    assert set(figures["model"]) == {"popular", "oracle"}

"""`upnext log`: the same events in one segment, and nothing is trained again for it."""

from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.test_tiny_project import PROJECT, artifacts, fail, succeed, write_log
from tests.events.test_log import assert_same_rows
from tests.preparation.logs import meaning, numbers, segments
from upnext.base.artifacts import Artifact, Workspace
from upnext.events.log import EventLog

DAYS = 3


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose log grew by a file a day, so that its models are made from a log of several segments."""
    (tmp_path / "events").mkdir()
    write_log(tmp_path / "log.csv")
    header, *rows = (tmp_path / "log.csv").read_text().splitlines()
    file = tmp_path / "project.toml"
    file.write_text(PROJECT.replace("{folder}/log.csv", "{folder}/events/*.csv").format(folder=tmp_path))
    for day in range(DAYS):
        (tmp_path / "events" / f"{day}.csv").write_text("\n".join([header, *rows[day::DAYS]]) + "\n")
        succeed("prepare", file)
    return file


def log_in_use(project: Path) -> Artifact:
    return Workspace(project.parent / "work").current("log", "log")


def test_compaction_keeps_every_event_and_number_in_one_mapped_segment(project: Path) -> None:
    before = log_in_use(project)
    assert len(segments(before)) == DAYS
    assert "3 segments are one now" in succeed("log", "compact", project)
    after = log_in_use(project)
    assert after.name != before.name
    assert segments(after) == ["segment-000000.arrow"]
    logs = [EventLog.open(one.folder / "log") for one in (before, after)]
    assert_same_rows(logs[0].rows, logs[1].rows)
    assert not logs[1].rows.item.flags.owndata  # mapped
    assert np.array_equal(logs[0].offsets, logs[1].offsets)
    assert meaning(before) == meaning(after)
    assert numbers(before) == numbers(after)
    assert "is one segment already" in succeed("log", "compact", project)
    assert log_in_use(project).name == after.name


def test_nothing_is_made_again_after_a_compaction_and_a_next_day_follows_it(project: Path) -> None:
    succeed("run", project, "--until", "publish")
    succeed("log", "compact", project)
    compacted = log_in_use(project)
    before = artifacts(project)
    succeed("run", project, "--until", "publish")
    assert artifacts(project) == before
    for stage in ("pretrain", "evaluate", "publish"):
        succeed(stage, project)
    assert artifacts(project) == before
    (project.parent / "events" / "9.csv").write_text("user,item,time,surface,played\n7,new,1700950000,tv,0.9\n")
    succeed("run", project, "--until", "publish")
    grown = log_in_use(project)
    assert len(segments(grown)) == 2
    assert grown.manifest["metrics"]["num_events"] == compacted.manifest["metrics"]["num_events"] + 1
    assert sorted(name.split("-")[0] for name in artifacts(project) - before) == [
        "log",
        "model",
        "model",
        "release",
        "report",
    ]


def test_there_has_to_be_a_log(tmp_path: Path) -> None:
    file = tmp_path / "project.toml"
    file.write_text(PROJECT.format(folder=tmp_path))
    assert "holds no 'log' yet" in fail(file, "log", "compact", file)

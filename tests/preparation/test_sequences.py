"""Searches beside a log: read, numbered as the log, kept when it goes on, and forgotten with their user."""

from pathlib import Path
from typing import Any

import pytest

from tests.preparation.logs import DAY, START, config_of, prepared, write_events
from tests.preparation.test_append import NEW, OLD
from upnext.base.artifacts import Artifact, Workspace
from upnext.base.errors import BadConfig, BadData
from upnext.base.ids import stable_hash
from upnext.events.log import EventLog
from upnext.features.vocabulary import Vocabulary
from upnext.preparation.forgotten import Forgotten
from upnext.preparation.rewritten import compacted, log_without

SEARCHES = [
    ("ann", 2 * DAY, "Blue  Train, blue", "jazz"),
    ("bob", 1 * DAY, "", ""),
    ("ann", 1 * DAY, "Ｊazz!", "jazz"),
    ("new", 4 * DAY, "tango", "dance"),
    ("nobody", 0, "x", "y"),
]


def source(folder: Path, **changes: Any) -> dict[str, Any]:
    table = {"path": f"{folder}/searches.csv", "user": "who", "time": "at", "time_unit": "s"}
    return {"sequences": {"searches": table | {"text": "query"}, "shelves": table | {"value": "shelf"}} | changes}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = [f'{who},{START + at},"{query}",{shelf}' for who, at, query, shelf in SEARCHES]
    (tmp_path / "searches.csv").write_text("\n".join(["who,at,query,shelf", *lines]) + "\n")
    write_events(tmp_path, "1.csv", OLD)
    return tmp_path


def told(artifact: Artifact, name: str = "searches") -> list[tuple[Any, int, list[int]]]:
    """The rows with the users' own ids, seconds since START, and the hashes without padding."""
    rows = EventLog.open(artifact.folder / "log").sequences[name]
    users = Vocabulary.load(artifact.folder / "users.vocabulary.arrow")
    return [
        (users.external(int(user)), int(time_ms) // 1000 - START, [value for value in row.tolist() if value])
        for user, time_ms, row in zip(rows.user, rows.time_ms, rows.hashes, strict=True)
    ]


def hashed(*words: str) -> list[int]:
    return [stable_hash(word) for word in words]


ANN = [("ann", DAY, hashed("jazz")), ("ann", 2 * DAY, hashed("blue", "train"))]
BOB: list[tuple[Any, int, list[int]]] = [("bob", DAY, [])]


def test_searches_lie_beside_the_log_and_grow_with_it(folder: Path) -> None:
    first = prepared(config_of(folder, source=source(folder)), folder / "work")
    assert told(first) == ANN + BOB
    assert told(first, "shelves") == [("ann", DAY, hashed("jazz")), ("ann", 2 * DAY, hashed("jazz")), *BOB]
    assert "sequence searches: 2 rows of users without an event were left out" in first.manifest["metrics"]["notes"]
    write_events(folder, "2.csv", NEW)
    second = prepared(config_of(folder, source=source(folder)), folder / "work")
    assert second.manifest["parents"] == [first.name]
    assert told(second) == [*ANN, *BOB, ("new", 4 * DAY, hashed("tango"))]
    assert told(compacted(Workspace(folder / "work"), second)) == told(second)


def test_a_request_sees_the_searches_strictly_before_it(folder: Path) -> None:
    log = EventLog.open(prepared(config_of(folder, source=source(folder)), folder / "work").folder / "log")
    starts, ends = log.sequences["searches"].before(log.rows.user, log.rows.time_ms[log.request_start])
    days = (log.rows.time_ms // 1000 - START) // DAY
    # Ann's request of day 2 does not see the search of that moment, but that of day 1; Bob's of day 3 sees his own.
    assert dict(
        zip(zip(log.rows.user.tolist(), days.tolist(), strict=True), (ends - starts).tolist(), strict=True)
    ) == {
        (2, 0): 0,
        (2, 2): 1,
        (3, 1): 0,
        (3, 3): 1,
    }


def test_a_forgotten_user_searched_nothing(folder: Path) -> None:
    work = Workspace(folder / "work")
    log = prepared(config_of(folder, source=source(folder)), work.root)
    forgotten = Forgotten.load(work.root).with_users(["bob"])
    forgotten.save(work.root)
    assert told(log_without(work, log, forgotten)) == ANN
    assert told(prepared(config_of(folder, source=source(folder), views={}), work.root)) == ANN


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"searches": {"path": "p", "user": "who", "time": "at"}}, "either a column of text or one of categories"),
        ({"searches": {"path": "p", "user": "w", "time": "a", "text": "t", "value": "v"}}, "either a column of text"),
        ({"../x": {"path": "p", "user": "who", "time": "at", "text": "t"}}, "cannot be a sequence's name"),
    ],
)
def test_a_wrong_sequence_is_explained(folder: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadConfig, match=words):
        config_of(folder, source=source(folder, **changes))


def test_sequences_need_times_of_the_events_and_columns_that_are_there(folder: Path) -> None:
    with pytest.raises(BadConfig, match="sequences have times, and the events have none"):
        config_of(folder, source=source(folder) | {"time": None, "time_unit": None})
    wrong = source(folder, searches=source(folder)["sequences"]["searches"] | {"text": "qery"})
    with pytest.raises(BadData, match="'qery'"):
        prepared(config_of(folder, source=wrong), folder / "work")

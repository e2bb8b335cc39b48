"""Features of a log that goes on, and of one that forgets a user."""

from pathlib import Path
from typing import Any

from tests.preparation.logs import DAY, Row, config_of, numbers, prepared, write_events
from upnext.base.artifacts import Artifact, Workspace
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.preparation.forgotten import Forgotten
from upnext.preparation.rewritten import log_without

SOURCE = {
    "items": {"item": "item", "features": {"maker": "categorical", "words": "multi", "size": "numeric"}},
    "users": {"user": "user", "features": {"age": "numeric", "town": "text"}},
}
OLD: list[Row] = [("ann", "a", 0), ("bob", "b", DAY), ("cy", "c", DAY), ("ann", "b", 2 * DAY), ("bob", "a", 3 * DAY)]
NEW: list[Row] = [("new", "d", 4 * DAY), ("ann", "c", 4 * DAY + 1), ("cy", "a", 5 * DAY)]


def write_tables(folder: Path, items: str, users: str) -> dict[str, Any]:
    """The side tables, and the source that names them."""
    (folder / "things.csv").write_text("item,maker,words,size\n" + items)
    (folder / "people.csv").write_text("user,age,town\n" + users)
    paths = {"items": str(folder / "things.csv"), "users": str(folder / "people.csv")}
    return {name: {"path": paths[name], **SOURCE[name]} for name in paths}


def by_name(artifact: Artifact) -> dict[str, Any]:
    """What models read of each item and user, by external id."""
    found: dict[str, Any] = {}
    for table in (Catalogue.load(artifact.folder), People.load(artifact.folder)):
        for external in table.vocabulary.ids:
            dense = table.vocabulary.dense(external)
            found[f"{external}"] = {
                name: column.values[dense][column.observed[dense]].tolist()
                for name, column in table.features.columns.items()
            }
    return found


def test_an_appended_log_has_the_features_of_a_log_of_all_files(tmp_path: Path) -> None:
    write_events(tmp_path, "1.csv", OLD)
    source = write_tables(tmp_path, "a,X,u|v,1\nb,Y,,2\n", "ann,30,Old Town\n")
    first = prepared(config_of(tmp_path, source=source), tmp_path / "work")
    write_events(tmp_path, "2.csv", NEW)
    write_tables(tmp_path, "a,X,u|v,1\nb,Z,w,2\nc,,u,5\nd,X,v,\n", "ann,31,Old Town\nnew,20,Far\nnobody,1,x\n")
    second = prepared(config_of(tmp_path, source=source), tmp_path / "work")
    assert second.manifest["parents"] == [first.name]  # it was appended
    fresh = prepared(config_of(tmp_path, source=source), tmp_path / "fresh")
    assert by_name(second) == by_name(fresh)
    assert by_name(second) != by_name(first)
    assert len(by_name(second)["c"]["size"]) == 1


def test_a_forgotten_user_leaves_no_features(tmp_path: Path) -> None:
    write_events(tmp_path, "1.csv", OLD + NEW)
    source = write_tables(tmp_path, "a,X,u|v,1\n", "ann,30,Old Town\nbob,77,Secret Harbour\ncy,40,Old Town\n")
    log = prepared(config_of(tmp_path, source=source), tmp_path / "work")
    before = by_name(log)
    workspace = Workspace(tmp_path / "work")
    left = log_without(workspace, log, Forgotten.load(workspace.root).with_users(["bob"]))
    after = by_name(left)
    assert "bob" not in after
    assert numbers(left, "users") == {user: dense for user, dense in numbers(log, "users").items() if user != "bob"}
    for name in ("cy", "ann", "a"):
        assert {key: value for key, value in after[name].items() if key != "age"} == {
            key: value for key, value in before[name].items() if key != "age"
        }
    people, was = People.load(left.folder), People.load(log.folder)
    dense = was.vocabulary.dense("bob")
    assert not any(
        column.observed[dense].any() or column.values[dense].any() for column in people.features.columns.values()
    )
    assert 77.0 in was.features.encoder.bounds["age"]
    assert 77.0 not in people.features.encoder.bounds["age"]
    assert was.table.column("town").to_pylist()[dense - 2] == "Secret Harbour"
    assert people.table.column("town").to_pylist()[dense - 2] is None
    assert not [path for path in left.folder.rglob("*") if path.is_file() and b"Secret Harbour" in path.read_bytes()]

"""The embedded store keeps the contract of all stores, and what it acknowledged outlives a kill."""

import signal
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from tests.store.contract import StoreContract
from upnext.base.errors import BadArtifact
from upnext.base.protocols import Store
from upnext.store.embedded import LmdbStore


class TestLmdbStore(StoreContract):
    def open(self, folder: Path) -> Store:
        return LmdbStore(folder)


_WRITE_FOR_EVER = """
import sys
from itertools import count
from pathlib import Path
from upnext.store.embedded import LmdbStore
store = LmdbStore(Path(sys.argv[1]))
for number in count():
    store.put({b"%08d/%d" % (number, part): b"x" * 99 for part in range(3)})
    print(number, flush=True)
"""


def test_what_put_returned_from_survives_a_kill(tmp_path: Path) -> None:
    """The process is killed while it writes: all it acknowledged is there, and nothing is there by half."""
    command = [sys.executable, "-c", _WRITE_FOR_EVER, str(tmp_path / "store")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        acknowledged = [child.stdout.readline() for _ in range(9)]
        child.send_signal(signal.SIGKILL)
        acknowledged += [line for line in child.stdout if line.endswith("\n")]
        assert child.wait() == -signal.SIGKILL
    last = int(acknowledged[-1])
    assert last >= 8
    store = LmdbStore(tmp_path / "store")
    keys = [key for key, value in store.scan(b"") if value == b"x" * 99]
    written = max(last, int(keys[-1][:8]))  # at most one put was done but not yet acknowledged
    assert written <= last + 1
    assert keys == [b"%08d/%d" % (number, part) for number in range(written + 1) for part in range(3)]
    store.put({b"after": b"1"})
    assert store.get([b"after"]) == [b"1"]
    store.close()


_READ = """
import sys
from pathlib import Path
from upnext.store.embedded import LmdbStore
store = LmdbStore(Path(sys.argv[1]), is_read_only="read-only" in sys.argv)
print(store.get([b"a"]))
"""


@pytest.mark.parametrize("mode", ["read-only", "writing"])
def test_another_process_reads_while_this_one_holds_it_open(tmp_path: Path, mode: str) -> None:
    store = LmdbStore(tmp_path / "store")
    store.put({b"a": b"1"})
    command = [sys.executable, "-c", _READ, str(tmp_path / "store"), mode]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip() == "[b'1']"
    store.close()


def test_a_read_only_store_reads_and_never_writes(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "store")
    store.put({b"a": b"1"})
    store.close()
    (tmp_path / "store" / "lock.mdb").unlink()  # a finished artifact has none
    before = {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()}
    store = LmdbStore(tmp_path / "store", is_read_only=True)
    assert store.get([b"a", b"b"]) == [b"1", None]
    assert list(store.scan(b"")) == [(b"a", b"1")]
    for write in (lambda: store.put({b"b": b"2"}), lambda: store.delete([b"a"])):
        with pytest.raises(lmdb.ReadonlyError):
            write()
    store.close()
    assert {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()} == before


def test_a_read_only_store_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(BadArtifact, match=r"cannot open the store .*missing"):
        LmdbStore(tmp_path / "missing", is_read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_store_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadArtifact, match="cannot open the store"):
        LmdbStore(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "data.mdb").write_bytes(b"no database at all" * 999)
    with pytest.raises(BadArtifact, match="cannot open the store"):
        LmdbStore(tmp_path / "folder")


def test_a_put_with_a_key_that_is_too_long_writes_nothing(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "store")
    with pytest.raises(lmdb.Error):
        store.put({b"a": b"1", b"k" * 600: b"2"})
    assert store.get([b"a"]) == [None]
    store.close()


def test_a_closed_store_is_our_bug(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "store")
    store.close()
    with pytest.raises(AssertionError, match="closed"):
        store.get([b"a"])

"""What every store promises. An implementation's tests inherit this and open it."""

import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from upnext.base.protocols import Store


class Broken(Mapping[bytes, bytes]):
    """Values whose reading fails after the first two."""

    def __getitem__(self, key: bytes) -> bytes:
        if key >= b"c":
            raise ZeroDivisionError
        return b"new"

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"a", b"b", b"c"])

    def __len__(self) -> int:
        return 3


class StoreContract:
    """A store on an empty folder of its own, opened by `open`, as often as asked."""

    def open(self, folder: Path) -> Store:
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = self.open(tmp_path / "store")
        yield store
        store.close()

    def test_values_come_in_the_order_of_the_keys(self, store: Store) -> None:
        store.put({b"b": b"2", b"a": b"1", b"c": b""})
        assert store.get([b"c", b"missing", b"a", b"b", b"a"]) == [b"", None, b"1", b"2", b"1"]
        assert store.get([]) == []

    def test_put_replaces(self, store: Store) -> None:
        store.put({b"a": b"long value", b"b": b"2"})
        store.put({b"a": b"x"})
        store.put({})
        assert store.get([b"a", b"b"]) == [b"x", b"2"]

    def test_bytes_of_every_value_survive(self, store: Store) -> None:
        every = bytes(range(256))
        store.put({every: every[::-1], b"\0": b"\0\0", b"\xff" * 9: bytes(100_000)})
        assert store.get([every, b"\0", b"\xff" * 9]) == [every[::-1], b"\0\0", bytes(100_000)]

    def test_a_put_that_fails_writes_nothing(self, store: Store) -> None:
        store.put({b"a": b"old"})
        with pytest.raises(ZeroDivisionError):
            store.put(Broken())
        assert store.get([b"a", b"b", b"c"]) == [b"old", None, None]
        store.put({b"b": b"later"})  # and the store still works
        assert store.get([b"a", b"b"]) == [b"old", b"later"]

    def test_delete_forgets_and_ignores_the_unknown(self, store: Store) -> None:
        store.put({b"a": b"1", b"b": b"2", b"c": b"3"})
        store.delete([b"a", b"missing", b"c"])
        store.delete([b"a"])
        store.delete([])
        assert store.get([b"a", b"b", b"c"]) == [None, b"2", None]
        assert list(store.scan(b"")) == [(b"b", b"2")]

    def test_scan_gives_the_keys_of_a_prefix_ascending(self, store: Store) -> None:
        keys = [b"a", b"a\0", b"a\xff", b"a\xff\xff", b"aa", b"b", b"b/1", b"b/10", b"b/2", b"\xff", b"\xff\xff", b"`"]
        store.put({key: b"v" + key for key in keys})
        for prefix in [b"", b"a", b"a\xff", b"b/", b"b/1", b"\xff", b"\xff\xff", b"c", b"b/1000", b"\0"]:
            expected = sorted(key for key in keys if key.startswith(prefix))
            assert list(store.scan(prefix)) == [(key, b"v" + key) for key in expected], prefix

    def test_scan_sees_the_moment_of_its_call(self, store: Store) -> None:
        store.put({b"a1": b"1", b"a2": b"2"})
        scan = store.scan(b"a")
        store.put({b"a0": b"0", b"a2": b"changed", b"a3": b"3"})
        store.delete([b"a1"])
        assert list(scan) == [(b"a1", b"1"), (b"a2", b"2")]
        assert list(store.scan(b"a")) == [(b"a0", b"0"), (b"a2", b"changed"), (b"a3", b"3")]

    def test_two_scans_do_not_disturb_each_other_and_may_be_left(self, store: Store) -> None:
        store.put({b"a1": b"1", b"a2": b"2", b"b1": b"3"})
        first, second = store.scan(b"a"), store.scan(b"b")
        assert (next(first), next(second)) == ((b"a1", b"1"), (b"b1", b"3"))
        store.put({b"c": b"4"})
        assert next(first) == (b"a2", b"2")

    def test_what_was_written_is_there_after_reopening(self, tmp_path: Path) -> None:
        first = self.open(tmp_path / "store")
        first.put({b"a": b"1", b"b": b"2"})
        first.delete([b"b"])
        first.close()
        second = self.open(tmp_path / "store")
        assert second.get([b"a", b"b"]) == [b"1", None]
        second.close()

    def test_closing_twice_does_nothing(self, tmp_path: Path) -> None:
        store = self.open(tmp_path / "store")
        store.close()
        store.close()

    @pytest.mark.parametrize("seed", [0, 1])
    def test_behaves_like_a_dict(self, store: Store, seed: int) -> None:
        generator, expected = random.Random(seed), dict[bytes, bytes]()
        keys = [bytes(generator.choices(b"ab\0\xff", k=generator.randint(1, 4))) for _ in range(12)]
        for step in range(40):
            some = generator.sample(keys, generator.randint(0, 4))
            if generator.random() < 0.6:
                values = {key: f"{step}".encode() for key in some}
                store.put(values)
                expected |= values
            else:
                store.delete(some)
                expected = {key: value for key, value in expected.items() if key not in some}
            assert store.get(keys) == [expected.get(key) for key in keys]
            prefix = generator.choice(keys)[:2]
            assert list(store.scan(prefix)) == sorted(pair for pair in expected.items() if pair[0].startswith(prefix))

"""Paths of configurations on this machine."""

from pathlib import Path

import pytest

from upnext.events.sources import resolve_path


@pytest.mark.parametrize(
    ("value", "expected"), [(None, "data/ml-1m"), ("", "data/ml-1m"), ("/mnt/sets", "/mnt/sets/ml-1m")]
)
def test_the_data_folder(monkeypatch, value, expected):
    monkeypatch.delenv("UPNEXT_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("UPNEXT_DATA", value)
    assert resolve_path("${UPNEXT_DATA}/ml-1m") == Path(expected)


def test_other_paths_stay():
    assert resolve_path("events/log.csv") == Path("events/log.csv")
    assert resolve_path("/a/${UPNEXT_DATA}") == Path("/a/${UPNEXT_DATA}")

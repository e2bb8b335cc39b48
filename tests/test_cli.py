"""What the command line makes of failures that are nobody's bug."""

import errno
import sys

import pytest

from upnext import cli


def fail_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> int:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(sys, "argv", ["upnext"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_full_disk_is_no_bug_of_ours(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert fail_with(OSError(errno.ENOSPC, "No space left on device", "out.parquet"), monkeypatch) == 2
    assert "No space left on device: 'out.parquet'; make room" in capsys.readouterr().err
    assert fail_with(PermissionError(errno.EACCES, "Permission denied", "/x"), monkeypatch) == 2
    assert "or correct the path or its permissions" in capsys.readouterr().err


def test_what_nobody_foresaw_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("UPNEXT_TRACEBACK", raising=False)
    assert fail_with(FileNotFoundError(errno.ENOENT, "No such file", "/x"), monkeypatch) == 1
    assert "this is our bug: FileNotFoundError" in capsys.readouterr().err

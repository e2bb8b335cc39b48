"""Releases over HTTP: what is pulled or pushed is what was offered, each byte once; all else is refused."""

import contextlib
import http.server
import io
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.serving.projects import Published
from tests.serving.server import ProviderProcess
from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.errors import BadArtifact, BadConfig, Forbidden, NotFound, Unauthorized, Unreachable
from upnext.base.manifests import MANIFEST, name_of
from upnext.base.origins import Origin, origin_of
from upnext.commands.doctor import look_into
from upnext.commands.exchange import pull_release, push_release
from upnext.commands.forget import forget
from upnext.commands.releases import print_releases
from upnext.preparation.rewritten import admitted
from upnext.repository.incoming import Incoming, partly_here
from upnext.repository.listed import Listed
from upnext.repository.provider import Provider
from upnext.repository.transfer import pull, push
from upnext.serving.histories import history_key
from upnext.serving.release import Release

TOKEN = "a token of 32 characters or more"
FILES = {
    "release.json": b"{}",
    "models/a/weights.safetensors": bytes(range(256)) * 2000,
    "items of é.arrow": b"x",
    "empty.txt": b"",
}


def publish(workspace: Workspace, number: int = 0, more: bytes = b"") -> Artifact:
    """A release of small files; those of two numbers differ in one, where there is not more in each."""

    def write(draft: Draft) -> None:
        for name, content in (FILES | {"schema.json": str(number).encode()}).items():
            (draft.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (draft.folder / name).write_bytes(content + more)

    return workspace.ensure("release", "release", {"number": number}, [], write)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def there(tmp_path: Path) -> Workspace:
    """The provider's workspace."""
    return Workspace(tmp_path / "there")


@pytest.fixture
def here(tmp_path: Path) -> Workspace:
    (tmp_path / "here").mkdir()
    return Workspace(tmp_path / "here")


def as_it_is(workspace: Workspace, release: Artifact) -> Artifact:
    return release


def test_what_is_pulled_is_what_is_offered_and_only_what_is_new_comes(
    there: Workspace, here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = publish(there, 1), publish(there, 2)
    with ProviderProcess(there.root) as server:
        provider = Provider(server.address)
        assert provider.current() == two.name
        got = pull(here, provider, one.name, as_it_is)
        assert contents(got.folder) == contents(one.folder)
        assert here.in_use() == {}  # nothing points to it before it is served
        asked: list[str] = []

        def download(self: Provider, listed: Listed, name: str, part: Path) -> None:
            asked.append(name)
            plainly(self, listed, name, part)

        plainly = Provider.download
        monkeypatch.setattr(Provider, "download", download)
        assert contents(pull(here, provider, two.name, as_it_is).folder) == contents(two.folder)
        assert asked == ["schema.json"]  # the others are those of the first
        pull(here, provider, two.name, as_it_is)
        assert asked == ["schema.json"]
        assert origin_of(here.root, two.name) == Origin(server.address.rstrip("/"), two.name)
        assert not list((here.root / "incoming").iterdir())
        with pytest.raises(NotFound, match="no release"):
            pull(here, provider, "release-0123456789abcdef", as_it_is)
        listed = httpx.get(f"{server.address}v1/releases", trust_env=False).json()
        assert listed == {"current": two.name, "releases": sorted([one.name, two.name])}
    with pytest.raises(Unreachable, match="does not answer"):
        provider.current()


def test_a_push_sends_what_is_not_there_and_moves_the_pointer_last(there: Workspace, here: Workspace) -> None:
    one, two = publish(here, 1), publish(here, 2)
    screen = io.StringIO()
    with ProviderProcess(there.root, TOKEN) as server:
        os.environ["UPNEXT_TEST_TOKEN"] = TOKEN
        console = Console(file=screen, width=200)
        push_release(here.root, server.address, one.name, False, "UPNEXT_TEST_TOKEN", console)
        assert "5 files sent, 512,004 bytes; 0 were there already" in screen.getvalue()
        assert Provider(server.address).current() is None
        push_release(here.root, server.address, None, True, "UPNEXT_TEST_TOKEN", console)
        assert "1 files sent, 1 bytes; 4 were there already" in screen.getvalue()
        assert Provider(server.address).current() == two.name
        push_release(here.root, server.address, one.name, True, "UPNEXT_TEST_TOKEN", console)
        assert "0 files sent, 0 bytes; 5 were there already" in screen.getvalue()
        assert there.history("release") == [two.name, one.name]
        assert contents(there.named(one.name).folder) == contents(one.folder)
        assert origin_of(there.root, one.name) == Origin("pushed", one.name)
        for token, error in ((None, Unauthorized), ("x" * 32, Unauthorized)):
            with pytest.raises(error):
                push(two, Provider(server.address, token), True, lambda _: None)
        with pytest.raises(NotFound, match="holds no release"):
            push_release(here.root, server.address, "release-no", True, "UPNEXT_TEST_TOKEN", console)
    del os.environ["UPNEXT_TEST_TOKEN"]
    with ProviderProcess(there.root) as server, pytest.raises(Forbidden, match="only to be read"):
        push(two, Provider(server.address, TOKEN), True, lambda _: None)


def raw_manifest(release: Artifact, **changes: Any) -> tuple[str, bytes]:
    manifest = json.loads((release.folder / MANIFEST).read_text()) | changes
    return name_of(manifest), json.dumps(manifest).encode()


@given(st.text(max_size=20) | st.sampled_from(["a/../../b.json", "/etc/x.json", "a//b.json", ".x.json", "a/./b.json"]))
def test_only_plain_paths_inside_the_release_are_taken(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    manifest = {"kind": "release", "format_version": 1, "code_version": "1", "config": {}, "parents": [], "schema": ""}
    manifest |= {"metrics": {}, "files": {path: "0" * 64}, "sizes": {path: 3}}
    try:
        listed = Listed.parse(name_of(manifest), json.dumps(manifest).encode())
    except BadArtifact:
        return
    (name,) = listed.files
    folder = Path("/releases/one")
    assert os.path.normpath(folder / name) == str(folder / name)
    assert Path(name).suffix in {".safetensors", ".arrow", ".json", ".txt", ".npy", ".mdb"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format_version": 2}, "has format version 2, this Upnext reads 1"),
        ({"kind": "log"}, "is no name of a release"),
        ({"files": {"a.pkl": "0" * 64}, "sizes": {"a.pkl": 1}}, "only files of the kinds"),
        ({"files": {"../a.json": "0" * 64}, "sizes": {"../a.json": 1}}, "no path of a file inside"),
        ({"files": {"manifest.json": "0" * 64}, "sizes": {"manifest.json": 1}}, "no path of a file inside"),
        ({"files": {"a.json": "0" * 64}}, "how large its files are"),
        ({"files": {"a.json": "0" * 64}, "sizes": {"a.json": -1}}, "the size -1"),
        ({"files": {"a.json": "0" * 64}, "sizes": {"a.json": 1 << 60}}, "make room"),
        ({"files": {"a.json": "short"}, "sizes": {"a.json": 1}}, "no SHA-256"),
        ({"parents": ["another"]}, "was changed: what it says makes it release-"),
    ],
)
def test_a_manifest_that_is_none_is_refused_on_both_sides(
    there: Workspace, here: Workspace, changes: dict[str, Any], why: str
) -> None:
    release = publish(there)
    name, raw = raw_manifest(release, **changes)
    name = release.name if "parents" in changes else name
    with pytest.raises(BadArtifact, match=why):
        Incoming(here, Listed.parse(name, raw)).begin()
    empty = there.root.with_name("empty")
    with ProviderProcess(empty, TOKEN) as server, httpx.Client(base_url=server.address, trust_env=False) as http:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = http.put(f"v1/releases/{name}/manifest", content=raw, headers=headers)
        assert answer.status_code == 400
        assert why in answer.json()["error"]["message"]


def test_a_provider_gives_no_file_outside_its_releases(there: Workspace, tmp_path: Path) -> None:
    release = publish(there)
    (there.root / "secret.json").write_text("secret")
    (release.folder / "models" / "a" / "weights.safetensors").unlink()
    (release.folder / "models" / "a" / "weights.safetensors").symlink_to(there.root / "secret.json")
    with ProviderProcess(there.root, TOKEN) as server, httpx.Client(base_url=server.address, trust_env=False) as http:
        files = f"v1/releases/{release.name}/files/"
        assert http.get(files + "release.json").content == b"{}"
        assert http.get(files + "items%20of%20%C3%A9.arrow").content == b"x"
        for path in (
            "models/a/weights.safetensors",  # a link that leads out
            "../../../secret.json",
            "..%2f..%2f..%2fsecret.json",
            "%2e%2e/%2e%2e/%2e%2e/secret.json",
            "/etc/passwd",
            "manifest.json",
            "",
        ):
            assert http.get(files + path).status_code == 404, path
        for name in ("..", "%2e%2e", "log-0123456789abcdef", "release-..", "release-0123456789abcdef"):
            assert http.get(f"v1/releases/{name}/manifest").status_code == 404, name
        headers = {"Authorization": f"Bearer {TOKEN}"}
        for path in ("release.json", "../x.json"):
            assert http.put(files + path, content=b"x", headers=headers).status_code == 404  # no push is under way
        assert http.post("v1/releases/release-0123456789abcdef/finish", json={}, headers=headers).status_code == 404


def test_parts_of_files_and_files_that_are_too_long(there: Workspace, here: Workspace) -> None:
    release = publish(there)
    weights = "models/a/weights.safetensors"
    listed = Listed.parse(release.name, (release.folder / MANIFEST).read_bytes())
    with ProviderProcess(there.root) as server:
        path = f"{server.address}v1/releases/{release.name}/files/{weights}"
        answer = httpx.get(path, headers={"Range": "bytes=511990-"}, trust_env=False)
        assert (answer.status_code, answer.content) == (206, FILES[weights][511990:])
        assert httpx.get(path, headers={"Range": "bytes=512000-"}, trust_env=False).status_code == 416
        for begin in (0, 100, 511_999, 512_000, 600_000):
            part = here.root / "part"
            part.write_bytes((FILES[weights] + b"more" * 30_000)[:begin])
            Provider(server.address).download(listed, weights, part)
            assert part.read_bytes() == FILES[weights]


Answer = tuple[int, dict[str, str], bytes]


class Odd(http.server.BaseHTTPRequestHandler):
    """A provider that misbehaves: what it answers to the path is set by the test."""

    answers: dict[str, Answer] = {}

    def do_GET(self) -> None:
        status, headers, body = self.answers.get(self.path, (404, {}, b""))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def odd() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("what", "kind", "why"),
    [
        ("tampered", BadArtifact, "has another hash"),
        ("truncated", Unreachable, "ended after 100 of 512,000 bytes"),
        ("too long", BadArtifact, "512001 come"),
        ("no length", BadArtifact, "None come"),
        ("elsewhere", BadConfig, "leads on to http://example.org/"),
        ("endless manifest", BadArtifact, "more than 16,777,216 bytes"),
        ("no JSON", BadArtifact, "something else than releases"),
    ],
)
def test_what_a_provider_sends_is_not_believed(
    there: Workspace, here: Workspace, odd: str, what: str, kind: type[Exception], why: str
) -> None:
    release = publish(there)
    weights = "models/a/weights.safetensors"
    base = f"/v1/releases/{release.name}"
    files = FILES | {"schema.json": b"0"}
    good: dict[str, Answer] = {
        f"{base}/files/{quote(name)}": (200, {"Content-Length": str(len(body))}, body) for name, body in files.items()
    }
    good[f"{base}/manifest"] = (200, {}, (release.folder / MANIFEST).read_bytes())
    good["/v1/releases/current"] = (200, {}, json.dumps({"name": release.name}).encode())
    body = FILES[weights]
    path = f"{base}/files/{weights}"
    bad: dict[str, dict[str, Answer]] = {
        "tampered": {path: (200, {"Content-Length": "512000"}, b"x" + body[1:])},
        "truncated": {path: (200, {"Content-Length": "512000"}, body[:100])},
        "too long": {path: (200, {"Content-Length": "512001"}, body + b"x")},
        "no length": {path: (200, {}, body)},
        "elsewhere": {path: (302, {"Location": "http://example.org/"}, b"")},
        "endless manifest": {f"{base}/manifest": (200, {}, b" " * (17 << 20))},
        "no JSON": {"/v1/releases/current": (200, {}, b"<html>")},
    }
    Odd.answers = good | bad[what]
    with pytest.raises(kind, match=why):
        pull_release(here.root, odd, None, Console(quiet=True))
    assert here.folders() == []
    assert here.in_use() == {}
    Odd.answers = good
    pull_release(here.root, odd, None, Console(quiet=True))  # what came before is used, and it ends well
    assert contents(here.current("release", "release").folder) == contents(release.folder)


def test_addresses() -> None:
    for address in (
        "models:8100",
        "ftp://models",
        "http://",
        "http://a:b@models/",
        "file:///etc",
        "http://m/?x=1",
        "http://m:x/",
    ):
        with pytest.raises(BadConfig, match="no address of releases"):
            Provider(address)
    assert Provider("http://models:8100/").address == "http://models:8100"


def listed_origin(workspace: Workspace) -> dict[str, Any]:
    screen = io.StringIO()
    print_releases(workspace.root, True, Console(file=screen))
    (release,) = json.loads(screen.getvalue())["releases"]
    return {"name": release["name"], "origin": release["origin"], "is_current": release["is_current"]}


def test_who_is_forgotten_leaves_pulled_releases_and_does_not_come_back(tiny: Published, tmp_path: Path) -> None:
    here = Workspace(tmp_path / "here")
    users = Release.load(tiny.release).users.ids
    with ProviderProcess(tiny.workspace) as server:
        address = server.address.rstrip("/")
        pull_release(here.root, address, None, Console(quiet=True))
        origin = {"address": address, "name": tiny.release.name}
        assert listed_origin(here) == {"name": tiny.release.name, "origin": origin, "is_current": True}
        (here.root / "incoming" / "release-0" / "files").mkdir(parents=True)
        checks = {check.name: check for check in look_into(here.root)}
        assert (
            checks["origin"].message == f"1 releases came from {address}; {tiny.release.name}, in use, from {address}"
        )
        assert "release-0" in checks["incoming"].message
        screen = io.StringIO()
        forget(here, [str(users[3])], Console(file=screen, width=200))
        assert f"{address}, where releases were pulled from, still has them" in screen.getvalue()
        rewritten = listed_origin(here)
        assert rewritten["name"] != tiny.release.name
        assert (rewritten["origin"], rewritten["is_current"]) == (origin, True)
        assert partly_here(here) == []
        pull_release(here.root, address, None, Console(quiet=True))  # it is known to be here
        assert listed_origin(here) == rewritten
        shutil.rmtree(here.root / "artifacts")
        pull_release(here.root, address, None, Console(quiet=True))  # it comes again, and is rewritten again
        assert listed_origin(here)["origin"] == origin
        release = Release.load(here.current("release", "release").folder)
        assert users[3] not in release.users.ids
        assert release.histories.get([history_key(users[3])]) == [None]
        assert release.histories.get([history_key(users[4])]) != [None]


CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate", "shutil.rmtree"}


def _until(step: int, work: Callable[[], object]) -> None:
    """Work, and be killed before the given change of a file or folder."""
    count = 0

    def count_changes(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in CHANGES or writes:
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

    sys.addaudithook(count_changes)
    work()


def _pull_until(folder: Path, address: str, step: int) -> None:
    _until(step, lambda: pull_release(folder, address, None, Console(quiet=True)))


_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.repository.test_exchange"])


def test_a_pull_that_is_killed_anywhere_leaves_a_whole_workspace(there: Workspace, here: Workspace) -> None:
    """Each try goes a little further than the one before, until one reaches the end."""
    before, after = publish(here, 1), publish(there, 2)
    with ProviderProcess(there.root) as server:
        for step in range(1000):
            process = _CONTEXT.Process(target=_pull_until, args=(here.root, server.address, step))
            process.start()
            process.join()
            current = here.current("release", "release")  # which verifies it
            assert current.name in (before.name, after.name)
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL
            if step % 4 == 3:
                shutil.rmtree(here.root / "incoming", ignore_errors=True)
    assert step > 12
    assert current.name == after.name
    assert contents(current.folder) == contents(after.folder)


class KillsIt(Provider):
    """Kills the provider in the middle of the file that follows some others."""

    def __init__(self, server: ProviderProcess, num_sent: int) -> None:
        super().__init__(server.address, TOKEN)
        self._server, self._left = server, num_sent

    def upload(self, listed: Listed, name: str, path: Path) -> None:
        self._left -= 1
        if self._left < 0:
            self._server.kill()
        super().upload(listed, name, path)


def test_a_provider_that_is_killed_in_the_middle_of_a_push_offers_whole_releases(
    there: Workspace, here: Workspace
) -> None:
    before, after = publish(there, 1, b"more"), publish(here, 2)
    for num_sent in range(5):
        shutil.rmtree(there.root / "incoming", ignore_errors=True)
        with ProviderProcess(there.root, TOKEN) as server:
            with pytest.raises(Unreachable):
                push(after, KillsIt(server, num_sent), True, lambda _: None)
            assert there.current("release", "release").name == before.name
    with ProviderProcess(there.root, TOKEN) as server:
        push(after, Provider(server.address, TOKEN), True, lambda _: None)
    assert there.current("release", "release").name == after.name
    assert admitted(there, there.current("release", "release")).name == after.name

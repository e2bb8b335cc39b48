"""Pushes that meet, that begin again with other files, or that say nonsense; and addresses where nothing can be."""

import hashlib
import http.client
import json
import threading
from typing import Any

import httpx
import pytest

from tests.repository.test_exchange import TOKEN, contents, publish, raw_manifest
from tests.serving.server import ProviderProcess
from upnext.base.artifacts import Workspace
from upnext.base.errors import BadArtifact, BadConfig, Unreachable
from upnext.base.manifests import MANIFEST
from upnext.repository.listed import Listed
from upnext.repository.provider import Provider
from upnext.repository.transfer import push
from upnext.serving.listening import token_of

HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def there(tmp_path: Any) -> Workspace:
    return Workspace(tmp_path / "there")


@pytest.fixture
def here(tmp_path: Any) -> Workspace:
    return Workspace(tmp_path / "here")


def test_pushes_of_one_release_at_once_all_end_well(there: Workspace, here: Workspace) -> None:
    release = publish(here, 1)
    ended: list[object] = []
    everybody = threading.Barrier(4)

    def push_one(address: str) -> None:
        everybody.wait()
        try:
            ended.append(push(release, Provider(address, TOKEN), True, lambda _: None).name)
        except Exception as error:
            ended.append(error)

    with ProviderProcess(there.root, TOKEN) as server:
        threads = [threading.Thread(target=push_one, args=(server.address,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert ended == [release.name] * 4
    assert contents(there.current("release", "release").folder) == contents(release.folder)
    assert not list((there.root / "incoming").iterdir())


def test_a_file_that_comes_when_the_release_is_there_is_let_pass(there: Workspace, here: Workspace) -> None:
    release = publish(here, 1)
    with ProviderProcess(there.root, TOKEN) as server, httpx.Client(base_url=server.address, trust_env=False) as web:
        push(release, Provider(server.address, TOKEN), True, lambda _: None)
        answer = web.put(f"v1/releases/{release.name}/files/schema.json", content=b"1", headers=HEADERS)
        assert (answer.status_code, answer.json()) == (200, {"bytes": 1})
    assert not list((there.root / "incoming").iterdir())


def test_what_an_earlier_try_listed_under_the_name_is_no_part_of_the_release(there: Workspace, here: Workspace) -> None:
    """Releases with one recipe have one name, and where training is not repeated bit for bit other files."""
    release = publish(here, 1)
    manifest, more = json.loads((release.folder / MANIFEST).read_text()), b'{"scorers": []}'
    manifest["files"]["scorers.json"] = hashlib.sha256(more).hexdigest()
    manifest["sizes"]["scorers.json"] = len(more)
    at = f"v1/releases/{release.name}/"
    with ProviderProcess(there.root, TOKEN) as server, httpx.Client(base_url=server.address, trust_env=False) as web:
        assert web.put(at + "manifest", content=json.dumps(manifest).encode(), headers=HEADERS).status_code == 200
        assert web.put(at + "files/scorers.json", content=more, headers=HEADERS).status_code == 200
        push(release, Provider(server.address, TOKEN), True, lambda _: None)
    assert contents(there.current("release", "release").folder) == contents(release.folder)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"config": None}, "has None as its config"),
        ({"metrics": ["forgotten"]}, "has ['forgotten'] as its metrics"),
        ({"parents": {"a": 1}}, "has {'a': 1} as its parents"),
        ({"files": {"a.json": "0" * 64, "a.json/b.json": "0" * 64}}, "lists 'a.json/b.json' inside of what it lists"),
    ],
)
def test_a_manifest_of_another_shape_is_refused(here: Workspace, changes: dict[str, Any], why: str) -> None:
    if "files" in changes:
        changes = changes | {"sizes": dict.fromkeys(changes["files"], 1)}
    with pytest.raises(BadArtifact) as error:
        Listed.parse(*raw_manifest(publish(here), **changes))
    assert why in str(error.value)


def test_an_end_of_a_push_that_is_no_json_is_refused(there: Workspace, here: Workspace) -> None:
    release = publish(here)
    at = f"v1/releases/{release.name}/"
    with ProviderProcess(there.root, TOKEN) as server, httpx.Client(base_url=server.address, trust_env=False) as web:
        web.put(at + "manifest", content=(release.folder / MANIFEST).read_bytes(), headers=HEADERS)
        for body in (b"", b"{", b"[]", b'{"current": 1}', b"\xff", b"[" * 100_000):
            answer = web.post(at + "finish", content=body, headers=HEADERS)
            assert (answer.status_code, answer.json()["error"]["kind"]) == (400, "BadRequest"), body[:20]


@pytest.mark.parametrize(
    "address",
    ["http://[bad", "http://a..b/", f"http://{'a' * 70}.org", "http://models/ä", "http://mo dels", "http://m/a\nb"],
)
def test_what_can_be_no_address_is_none(address: str) -> None:
    with pytest.raises(BadConfig, match="no address of releases"):
        Provider(address)


def test_a_network_without_a_way_there_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: http.client.HTTPConnection) -> None:
        raise OSError(113, "No route to host")

    monkeypatch.setattr(http.client.HTTPConnection, "connect", fail)
    with pytest.raises(Unreachable, match="No route to host"):
        Provider("http://models:8100").current()


def test_whoever_compares_much_has_longer_to_answer(here: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def fail(self: http.client.HTTPConnection) -> None:
        assert self.timeout is not None
        waits.append(self.timeout)
        raise OSError(113, "No route to host")

    monkeypatch.setattr(http.client.HTTPConnection, "connect", fail)
    size = 5_000_000_000
    listed = Listed.parse(*raw_manifest(publish(here), files={"a.json": "0" * 64}, sizes={"a.json": size}))
    provider = Provider("http://models:8100", TOKEN)
    for ask in (provider.current, lambda: provider.begin(listed), lambda: provider.finish(listed, True)):
        with pytest.raises(Unreachable):
            ask()
    assert waits == [30, 130, 230]


def test_a_token_that_no_header_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for token in ("a token with a € in it", "a token and a line\n"):
        monkeypatch.setenv("UPNEXT_TEST_TOKEN", token)
        with pytest.raises(BadConfig, match="no HTTP header holds"):
            token_of("UPNEXT_TEST_TOKEN")

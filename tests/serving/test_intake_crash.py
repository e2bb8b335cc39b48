"""What was acknowledged survives a killed server; and the command starts, announces itself and stops."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.serving.projects import Published
from tests.serving.server import ServerProcess
from upnext.features.catalogue import Catalogue

KILLS = 6
POSTERS = 4
EVENTS_PER_POST = 3
FIRST_MS = 1_750_000_000_000


def open_http(address: str) -> httpx.Client:
    return httpx.Client(base_url=address, trust_env=False, timeout=30)


class Posters:
    """Clients that post until the server is gone, and remember what was acknowledged: user -> times of events."""

    def __init__(self, items: list[Any], life: int, enough: int) -> None:
        self.items = items
        self.life = life
        self.acknowledged: dict[str, set[int]] = defaultdict(set)
        self.sent: list[list[tuple[str, int]]] = []
        self.has_enough = threading.Event()
        self._enough = enough
        self._num_acknowledged = 0
        self._lock = threading.Lock()

    def post(self, address: str, poster: int) -> None:
        user = f"life-{self.life}-poster-{poster}"
        with open_http(address) as http:
            for number in range(10_000):
                # A post is for two users, and its events' times are theirs alone.
                times = [FIRST_MS + EVENTS_PER_POST * number + step for step in range(EVENTS_PER_POST)]
                events = [(f"{user}-{step % 2}", time_ms) for step, time_ms in enumerate(times)]
                self.sent.append(events)
                body = [
                    {"user_id": who, "item_id": self.items[time_ms % len(self.items)], "time_ms": time_ms}
                    for who, time_ms in events
                ]
                try:
                    answer = http.post("/v1/events", json={"events": body})
                except httpx.TransportError:
                    return
                assert answer.status_code == 201, answer.text
                self._acknowledge(events)

    def _acknowledge(self, events: list[tuple[str, int]]) -> None:
        with self._lock:
            for user, time_ms in events:
                self.acknowledged[user].add(time_ms)
            self._num_acknowledged += 1
            if self._num_acknowledged >= self._enough:
                self.has_enough.set()


def test_nothing_acknowledged_is_lost(tiny: Published, tmp_path: Path) -> None:
    workspace = tiny.lend(tmp_path / "lent")
    items = Catalogue.load(tiny.release).vocabulary.ids
    lives: list[Posters] = []
    chance = random.Random(0)
    with ThreadPoolExecutor(POSTERS) as pool:
        for life in range(KILLS):
            posters = Posters(items, life, enough=chance.randint(1, 120))
            lives.append(posters)
            with ServerProcess(workspace) as server:
                posting = [pool.submit(posters.post, server.address, number) for number in range(POSTERS)]
                assert posters.has_enough.wait(60)
                server.kill()  # while the others are in the middle of a post
                for one in posting:
                    one.result()
    with ServerProcess(workspace) as server, open_http(server.address) as http:
        stored: dict[str, set[int]] = {}
        for posters in lives:
            for user in {user for post in posters.sent for user, _ in post}:
                history = http.get(f"/v1/users/{user}/history", params={"limit": 1000}).json()
                assert history["num_events"] <= 1000
                assert all(
                    event["item"]["item_id"] == items[event["time_ms"] % len(items)] for event in history["events"]
                )
                stored[user] = {event["time_ms"] for event in history["events"]}
                assert len(stored[user]) == history["num_events"]
        lost = {user: gone for p in lives for user, times in p.acknowledged.items() if (gone := times - stored[user])}
        assert not lost
        # A post is stored whole or not at all, also where nobody heard of it.
        for post in (post for posters in lives for post in posters.sent):
            assert len({time_ms in stored[user] for user, time_ms in post}) == 1
        user = max(stored, key=lambda user: len(stored[user]))
        page = http.get("/v1/recommendations", params={"user_id": user}).json()
        assert page["is_known"] is False  # opened, not watched
        assert page["rows"]


def test_the_command_serves_until_interrupted(tiny: Published, tmp_path: Path) -> None:
    workspace = tiny.lend(tmp_path / "lent")
    command = [sys.executable, "-c", "from upnext.cli import main; main()", "serve", str(tiny.file)]
    command += ["--set", f"workspace={workspace}", "--set", "serve.port=0"]
    environment = os.environ | {"PYTHONWARNINGS": "error", "COLUMNS": "200"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            found = next((found for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+/", line))), None)
            assert found is not None, process.stderr.read() if process.stderr else ""
            with open_http(found[0]) as http:
                assert http.get("/health").json()["status"] == "ok"
                assert http.get("/v1/users/ann%2Flee%3F/history").json()["user_id"] == "ann/lee?"
                assert http.get("/").headers["content-type"].startswith("text/html")
            # A taken port is the user's to mend.
            port = found[0].rsplit(":")[-1].strip("/")
            second = subprocess.run(
                [*command[:-1], f"serve.port={port}"], capture_output=True, text=True, timeout=60, env=environment
            )
            assert second.returncode == 2
            assert f"cannot listen on 127.0.0.1:{port}" in second.stderr
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert errors == ""


def test_no_acknowledged_amendment_is_lost_or_counted_twice(tiny: Published, tmp_path: Path) -> None:
    """Every post has a new event and amends the one before; after each kill all of a post is there, or nothing."""
    workspace = tiny.lend(tmp_path / "lent")
    item = Catalogue.load(tiny.release).vocabulary.ids[0]
    acknowledged: dict[str, int] = {}

    def post_until_the_end(address: str, user: str, has_enough: threading.Event, enough: int) -> None:
        event = {"user_id": user, "item_id": item}
        with open_http(address) as http:
            for number in range(10_000):
                play = event | {"interaction_id": number, "time_ms": FIRST_MS + number, "feedback": {"played": 0.0}}
                like = event | {"interaction_id": number - 1, "time_ms": FIRST_MS + number, "feedback": {"like": 1.0}}
                try:
                    answer = http.post("/v1/events", json={"events": [like, play] if number else [play]})
                except httpx.TransportError:
                    return
                assert answer.status_code == 201, answer.text
                acknowledged[user] = number + 1
                if number + 1 >= enough:
                    has_enough.set()

    chance = random.Random(1)
    with ThreadPoolExecutor(2) as pool:
        for life in range(4):
            has_enough, enough = threading.Event(), chance.randint(1, 60)
            with ServerProcess(workspace) as server:
                users = [f"life-{life}-{number}" for number in range(2)]
                posting = [pool.submit(post_until_the_end, server.address, u, has_enough, enough) for u in users]
                assert has_enough.wait(60)
                server.kill()
                for one in posting:
                    one.result()
    with ServerProcess(workspace) as server, open_http(server.address) as http:
        for user, count in acknowledged.items():
            history = http.get(f"/v1/users/{user}/history", params={"limit": 1000}).json()
            assert len(history["events"]) == history["num_events"] < 1000
            assert history["num_events"] in (count, count + 1)  # the last post may be there though nobody heard of it
            *liked, last = [(event["time_ms"] - FIRST_MS, event["feedback"]) for event in history["events"][::-1]]
            assert liked == [(number, {"played": 0.0, "like": 1.0}) for number in range(len(liked))]
            assert last == (len(liked), {"played": 0.0})

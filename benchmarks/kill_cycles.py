"""Whether anything acknowledged is ever lost: a real server is killed under load, a thousand times.

    nice python benchmarks/kill_cycles.py --folder runs/kill-cycles --cycles 1000

Each cycle starts the server on the same live store, lets several connections post events, one after the other and
each event with an id of its own, kills the server at a random moment (SIGKILL: no handler runs), and starts it again
in the next cycle. In between the users of the cycle before are asked for; at the end the store is read as a whole.
Every acknowledged event has to be there once, with the time and the item that were sent, and every post as a whole
or not at all. Rows go to docs/results/kill_cycles.json.
"""

import argparse
import asyncio
import json
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is loaded

import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client import Connection
from record import commit, machine
from served import Served, lent
from synthetic import ReleaseSize, made_release

from upnext.features.catalogue import Catalogue
from upnext.serving.histories import Histories
from upnext.serving.release import Release
from upnext.store.embedded import LmdbStore

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "kill_cycles.json"
SIZE = ReleaseSize(users=200, items=300, width=8, mean_length=10, max_length=20, layers=1, collections=2)
FIRST_MS = 1_750_000_000_000
EVENTS_PER_POST = 3


def main() -> None:
    """Kill as often as asked, compare, and write the rows; the exit code is 1 if anything was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/kill-cycles"), help="where the release lies")
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--longest", type=float, default=0.25, help="seconds of posting before a kill, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    artifact = made_release(arguments.folder, SIZE)
    items = len(Catalogue.load(artifact.folder).vocabulary.ids)
    chance = random.Random(arguments.seed)
    tally = Tally(items)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:  # on the disk that is meant, not in memory
        workspace = lent(artifact, Path(folder) / "lent").root
        for cycle in range(arguments.cycles):
            with Served(workspace) as server:  # leaving it kills it
                asyncio.run(live(server, cycle, arguments.connections, chance, arguments.longest, tally))
            if (cycle + 1) % 50 == 0:
                print(f"{cycle + 1} kills, {tally.num_acknowledged} posts acknowledged", flush=True)
        seconds = time.perf_counter() - start
        tally.compare_all(Release.load(artifact.folder), workspace / "live")
    rows = as_rows(arguments, tally, seconds)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['metric']:32} {row['value']:g}")
    for problem in tally.problems[:20]:
        print(problem)
    raise SystemExit(1 if tally.problems else 0)


@dataclass
class Tally:
    """What was sent, what was acknowledged, and what does not agree with it."""

    num_items: int
    sent: dict[str, list[int]] = field(default_factory=dict)
    """By user, the numbers of posts, in order; only the last may be without an acknowledgement."""
    acknowledged: dict[str, int] = field(default_factory=dict)
    """By user, how many posts were acknowledged."""
    problems: list[str] = field(default_factory=list)
    num_checked_alive: int = 0
    num_unheard: int = 0
    """Posts that are stored though nobody heard so."""

    @property
    def num_acknowledged(self) -> int:
        """Posts that were acknowledged."""
        return sum(self.acknowledged.values())

    def expected(self, user: str, number: int) -> list[tuple[int, int]]:
        """Times and items of a post, the item following from user and time."""
        times = [FIRST_MS + EVENTS_PER_POST * number + step for step in range(EVENTS_PER_POST)]
        return [(time_ms, (time_ms + len(user)) % self.num_items) for time_ms in times]

    def compare(self, user: str, stored: list[tuple[int, int]]) -> None:
        """Compare what the service has of a user with what was sent."""
        certain = [event for number in range(self.acknowledged[user]) for event in self.expected(user, number)]
        unheard = [
            event for number in self.sent[user][self.acknowledged[user] :] for event in self.expected(user, number)
        ]
        if sorted(stored) == certain + unheard:
            self.num_unheard += bool(unheard)
        elif sorted(stored) != certain:
            lost, more = set(certain) - set(stored), len(stored) - len(set(stored))
            self.problems.append(f"{user}: {len(lost)} of {len(certain)} acknowledged events lost, {more} doubled")

    def compare_all(self, release: Release, live_folder: Path) -> None:
        """Compare every user."""
        live = LmdbStore(live_folder)
        histories = Histories(release, live)
        self.num_unheard = 0
        for user in self.sent:
            ((events, _),) = histories.read([user])
            ids = release.catalogue.vocabulary.ids
            stored = [(int(t), int(ids[item - 2])) for t, item in zip(events.time_ms, events.item, strict=True)]
            self.compare(user, stored)
        live.close()
        release.histories.close()


async def live(
    server: Served, cycle: int, connections: int, chance: random.Random, longest: float, tally: Tally
) -> None:
    """One life of a server: the users of the life before are there; then it is posted to until it is killed."""
    for number in range(connections):
        if (user := f"life-{cycle - 1}-{number}") in tally.sent:
            asking = await Connection.open(server.host, server.port)
            status, answer = await asking.ask("GET", f"/v1/users/{user}/history?limit=1000")
            asking.close()
            history = json.loads(answer)
            assert (status, history["num_events"]) == (200, len(history["events"])), history
            tally.compare(user, [(event["time_ms"], event["item"]["item_id"]) for event in history["events"]])
            tally.num_checked_alive += 1
    posting = [asyncio.create_task(post(server, f"life-{cycle}-{number}", tally)) for number in range(connections)]
    await asyncio.sleep(chance.uniform(0, longest))
    server.kill()  # in the middle of posts
    await asyncio.gather(*posting)


async def post(server: Served, user: str, tally: Tally) -> None:
    """Post one body after the other until the server is gone."""
    tally.sent[user], tally.acknowledged[user] = [], 0
    connection = None
    try:
        connection = await Connection.open(server.host, server.port)
        for number in range(300):
            events = [
                {"user_id": user, "item_id": item, "time_ms": time_ms, "event_id": str(time_ms)}
                for time_ms, item in tally.expected(user, number)
            ]
            tally.sent[user].append(number)
            status, answer = await connection.ask("POST", "/v1/events", json.dumps({"events": events}).encode())
            assert status == 201, answer
            tally.acknowledged[user] += 1
    except (ConnectionError, asyncio.IncompleteReadError):
        pass  # it was killed
    finally:
        if connection is not None:
            connection.close()


def as_rows(arguments: argparse.Namespace, tally: Tally, seconds: float) -> list[dict[str, Any]]:
    """A row per figure."""
    known = {
        "benchmark": "kill_cycles",
        "dataset": f"synthetic, {SIZE.items} items",
        "protocol": f"{arguments.cycles} lives of a real server on one live store, each ended by SIGKILL up to"
        f" {arguments.longest:g} s after {arguments.connections} connections began to post, {EVENTS_PER_POST} events at"
        " a time",
        "model": "sasrec",
        "variant": "kill -9",
        "settings": {key: value for key, value in vars(arguments).items() if not isinstance(value, Path)},
        "k": None,
        "low": None,
        "high": None,
        "seeds": 1,
        "minutes": None,
        "command": f"python benchmarks/kill_cycles.py --cycles {arguments.cycles}",
        "commit": commit(),
        "machine": machine(packages=("lmdb", "uvicorn")),
    }
    figures = {
        "kills": arguments.cycles,
        "posts acknowledged": tally.num_acknowledged,
        "posts stored but not acknowledged": tally.num_unheard,
        "users compared after the next start": tally.num_checked_alive,
        "users compared at the end": len(tally.sent),
        "users with events lost or doubled": len(tally.problems),
        "seconds per life": round(seconds / arguments.cycles, 3),
    }
    return [known | {"metric": metric, "value": value} for metric, value in figures.items()]


if __name__ == "__main__":
    main()

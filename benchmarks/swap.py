"""Whether a swap is felt: pages and posts go on while a server pulls three releases and swaps them in.

    nice python benchmarks/swap.py --folder runs/swap

Four synthetic releases lie at a provider; they number items differently and have other weights. A real server serves
the first one and asks the provider, in a process of its own, which is current. While pages are asked for and events
are posted at random moments (Poisson), each of the other three is made current at the provider. Every answer has to be
a success, no fallback, and what the release that it names says of that user, worked out beforehand; in the end every
acknowledged event has to be there once. A page's time counts from the moment at which it was meant to be sent. Rows go
to docs/results/swap.json.
"""

import argparse
import asyncio
import json
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is loaded

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from client import Connection
from record import commit, machine
from served import Offered, Served, lent
from synthetic import ReleaseSize, made_release

from upnext.base.artifacts import Artifact, Workspace
from upnext.serving.histories import Histories
from upnext.serving.recommend import Query, recommend
from upnext.serving.release import Release

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "swap.json"
NUM_PROBES = 64
"""Users who ask and post nothing, so that it is known what each release says of them."""


def main() -> None:
    """Make the releases if need be, measure, and write the rows; the exit code is 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/swap"), help="where the releases lie")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--mean-length", type=int, default=50)
    parser.add_argument("-k", type=int, default=20)
    parser.add_argument("--rate", type=float, default=100, help="pages per second")
    parser.add_argument("--event-rate", type=float, default=10, help="posts per second, of one event each")
    parser.add_argument("--seconds", type=float, default=20, help="before, between and after the swaps")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    releases = [made(arguments, seed) for seed in range(4)]
    expected = {release.name: expectations(release, arguments) for release in releases}
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        offered = lent(releases[0], Path(folder) / "provider")
        with Offered(offered.root) as source:
            settings = {"release": f"http://{source.host}:{source.port}", "check_every": 200}
            with Served(Path(folder) / "server", settings=settings) as server:
                load = Load(server, expected, arguments)
                asyncio.run(load.run([(offered, release) for release in releases[1:]]))
    rows = as_rows(arguments, load, load_before)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['variant']:32} {row['metric']:28} {row['value']:g}")
    for problem in load.problems[:10]:
        print(problem)
    raise SystemExit(1 if load.problems else 0)


def made(arguments: argparse.Namespace, seed: int) -> Artifact:
    """One of the releases."""
    names = ("users", "items", "width", "mean_length")
    known = {name: getattr(arguments, name) for name in names}
    return made_release(arguments.folder, ReleaseSize(**known, max_length=100, layers=2, collections=4, seed=seed))


def expectations(artifact: Artifact, arguments: argparse.Namespace) -> dict[str, set[int]]:
    """What a release puts into the own row of each user who asks and posts nothing."""
    release = Release.load(artifact.folder)
    histories = Histories(release, None)
    found = {}
    for user in (f"user-{number}" for number in range(NUM_PROBES)):
        (page,) = recommend(release, histories, [Query(user, time.time_ns() // 1_000_000, arguments.k)])
        found[user] = {histories.assortment.describe(item)["item_id"] for item in page.rows[0].items}
    release.histories.close()
    return found


@dataclass
class Load:
    """Pages and posts at random moments, and the swaps."""

    server: Served
    expected: dict[str, dict[str, set[int]]]
    settings: argparse.Namespace
    pages: list[tuple[float, float, str]] = field(default_factory=list)
    """When it was meant to be sent, how many milliseconds it took, and the release that it names."""
    swaps: list[tuple[float, float]] = field(default_factory=list)
    """When a release was made current at the provider, and when the server answered by it."""
    memory_mb: list[tuple[float, float]] = field(default_factory=list)
    num_failed: int = 0
    num_mixed: int = 0
    num_lost: int = 0
    num_doubled: int = 0
    problems: list[str] = field(default_factory=list)
    posted: dict[str, list[str]] = field(default_factory=dict)
    """By user, the ids of the events that were acknowledged."""

    async def run(self, swaps: list[tuple[Workspace, Artifact]]) -> None:
        """Send everything, swap in between, and compare in the end."""
        self._free: list[Connection] = []
        self._begin = time.perf_counter() + 0.2
        self._is_over = False
        sending = [asyncio.create_task(self._arrive(self.settings.rate, self._page, 0))]
        sending.append(asyncio.create_task(self._arrive(self.settings.event_rate, self._post, 1)))
        sending.append(asyncio.create_task(self._watch_memory()))
        await asyncio.sleep(self.settings.seconds)
        for workspace, release in swaps:
            since = time.perf_counter() - self._begin
            workspace.use("release", release)
            while not any(name == release.name for _, _, name in self.pages[-50:]):
                await asyncio.sleep(0.02)
                if time.perf_counter() - self._begin - since > 120:
                    self.problems.append(f"{release.name} was not swapped in within two minutes")
                    break
            self.swaps.append((since, time.perf_counter() - self._begin))
            await asyncio.sleep(self.settings.seconds)
        self._is_over = True
        await asyncio.gather(*sending)
        await self._compare()
        for connection in self._free:
            connection.close()

    async def _arrive(self, rate: float, send: Any, seed: int) -> None:
        generator, at, tasks, number = np.random.default_rng(seed), 0.0, set(), 0
        while not self._is_over:
            at += float(generator.exponential(1 / rate))
            await asyncio.sleep(max(0.0, self._begin + at - time.perf_counter()))
            task = asyncio.create_task(send(at, number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        await asyncio.gather(*tasks)

    async def _ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        while self._free and not self._free[-1].is_fresh():
            self._free.pop().close()
        connection = self._free.pop() if self._free else await Connection.open(self.server.host, self.server.port)
        answer = await connection.ask(method, path, body)
        self._free.append(connection)
        return answer

    async def _page(self, at: float, number: int) -> None:
        user = f"user-{number % NUM_PROBES}"
        try:
            status, answer = await self._ask("GET", f"/v1/recommendations?user_id={user}&k={self.settings.k}")
            page = json.loads(answer)
            assert (status, page.get("fallback")) == (200, False), answer[:200]
        except (OSError, EOFError, ValueError, AssertionError) as error:
            self.num_failed += 1
            self.problems.append(f"a page at {at:.1f} s failed: {error!r}")
            return
        self.pages.append((at, (time.perf_counter() - self._begin - at) * 1000, page["release"]))
        row = page["rows"][0]["items"]
        names_differ = any(item["title"].rpartition(" ")[2] != str(item["item_id"]) for item in row)
        # Sums in another order may swap the last ones.
        if names_differ or len({item["item_id"] for item in row} & self.expected[page["release"]][user]) < len(row) - 2:
            self.num_mixed += 1
            self.problems.append(f"a page at {at:.1f} s is not what {page['release']} says of {user}")

    async def _post(self, at: float, number: int) -> None:
        user, name = f"poster-{number % 40}", f"event {number}"
        event = {"user_id": user, "item_id": number % self.settings.items, "event_id": name}
        try:
            status, answer = await self._ask("POST", "/v1/events", json.dumps({"events": [event]}).encode())
            assert status == 201, answer[:200]
        except (OSError, EOFError, AssertionError) as error:
            self.num_failed += 1
            self.problems.append(f"a post at {at:.1f} s failed: {error!r}")
            return
        self.posted.setdefault(user, []).append(number % self.settings.items)

    async def _watch_memory(self) -> None:
        while not self._is_over:
            self.memory_mb.append((time.perf_counter() - self._begin, self.server.memory_mb()))
            await asyncio.sleep(0.05)

    async def _compare(self) -> None:
        """Ask the last release for every event that was acknowledged."""
        for user, sent in self.posted.items():
            _, answer = await self._ask("GET", f"/v1/users/{user}/history?limit=1000")
            found = [event["item"]["item_id"] for event in json.loads(answer)["events"]]
            lost, doubled = set(sent) - set(found), len(found) - len(set(found))
            self.num_lost, self.num_doubled = self.num_lost + len(lost), self.num_doubled + doubled
            if lost or doubled:
                self.problems.append(f"{user}: {len(lost)} of {len(sent)} events lost, {doubled} doubled")

    def part(self, at: float) -> str:
        """Whether a moment is before the first swap, during one (a second more), or after one."""
        if at < self.swaps[0][0]:
            return "before"
        return "during" if any(since <= at < until + 1 for since, until in self.swaps) else "after"


def as_rows(arguments: argparse.Namespace, load: Load, load_before: float) -> list[dict[str, Any]]:
    """A row per figure."""
    known = {
        "benchmark": "swap",
        "dataset": f"synthetic, {arguments.items:,} items, {arguments.users:,} users",
        "protocol": f"{arguments.rate:g} pages and {arguments.event_rate:g} posted events a second, Poisson, from the"
        " moment a request was meant to be sent; three releases pulled from a provider and swapped in"
        f" {arguments.seconds:g} s apart; server, provider and clients share a machine, whose load was"
        f" {load_before:.1f} before",
        "model": "sasrec",
        "settings": {key: value for key, value in vars(arguments).items() if not isinstance(value, Path)},
        "k": None,
        "low": None,
        "high": None,
        "seeds": 1,
        "minutes": None,
        "command": f"python benchmarks/swap.py --rate {arguments.rate:g} --seconds {arguments.seconds:g}",
        "commit": commit(),
        "machine": machine(packages=("torch", "uvicorn", "litestar")),
    }
    figures: list[tuple[str, str, float]] = [
        ("all", "swaps", len({name for _, _, name in load.pages}) - 1),
        ("all", "pages", len(load.pages)),
        ("all", "requests failed", load.num_failed),
        ("all", "pages that mix releases", load.num_mixed),
        ("all", "events acknowledged", sum(map(len, load.posted.values()))),
        ("all", "events lost", load.num_lost),
        ("all", "events doubled", load.num_doubled),
    ]
    for part in ("before", "during", "after"):
        took = [took_ms for at, took_ms, _ in load.pages if load.part(at) == part]
        if took:
            figures += [(part, "pages", len(took))]
            figures += [(part, f"p{p}_ms", round(float(np.percentile(took, p)), 1)) for p in (50, 99)]
            figures += [(part, "max_ms", round(max(took), 1))]
        held = [mb for at, mb in load.memory_mb if load.part(at) == part]
        figures += [(part, "memory_mb", round(max(held)))] if held else []
    figures += [("a swap", "seconds, longest", round(max(until - since for since, until in load.swaps), 2))]
    return [known | {"variant": variant, "metric": metric, "value": value} for variant, metric, value in figures]


if __name__ == "__main__":
    main()

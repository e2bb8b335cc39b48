"""How long a page takes while a server is under load: percentiles over a minute of requests, events among them.

    python benchmarks/serve.py --folder runs/serve

A synthetic release (a SASRec with random weights, random histories, a row per collection) is made once in the folder.
A real server runs on one processor core, the clients on another. Requests are sent at their own moments, whether or
not earlier ones have been answered, and a page's time counts from the moment at which it was meant to be sent, so
that waiting counts. Every page encodes its user's history anew. Rows go to docs/results/serving.json.

A minute is measured twice: as the machine is, and with its cores kept awake, as a kernel with `idle=poll` keeps them. A
virtual machine's cores that sleep between pages come back slowly, and with caches that others have used meanwhile.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is loaded

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from client import Connection
from record import commit, machine
from served import Served, lent
from synthetic import ReleaseSize, made_release

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "serving.json"
PERCENTILES = (50, 90, 99, 100)


def main() -> None:
    """Make the release if need be, measure, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/serve"), help="where the release lies")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--mean-length", type=int, default=150, help="mean length of a history (geometric)")
    parser.add_argument("--max-length", type=int, default=200, help="the longest history that the model reads")
    parser.add_argument("--collections", type=int, default=10)
    parser.add_argument("-k", type=int, default=20)
    parser.add_argument("--rate", type=float, default=50, help="pages per second")
    parser.add_argument("--event-rate", type=float, default=5, help="posts per second, of one event each")
    parser.add_argument("--warm-up", type=float, default=5, help="seconds that do not count")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    names = ("users", "items", "width", "mean_length", "max_length", "layers", "collections")
    size = ReleaseSize(**{name: getattr(arguments, name) for name in names}, max_stored=2 * arguments.max_length)
    artifact = made_release(arguments.folder, size)
    load_before = os.getloadavg()[0]
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for is_awake in (False, True):
            workspace = lent(artifact, Path(folder) / str(is_awake)).root  # the live store of each run is a new one
            with awake(cores if is_awake else []):
                load = measure(workspace, cores, arguments)
            rows += as_rows(arguments, load, load_before, ", cores kept awake" if is_awake else "")
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['variant']:68} {row['metric']:12} {row['value']:g}")


@contextmanager
def awake(cores: list[int]) -> Iterator[None]:
    """Keep cores from sleeping: on each a process runs that gives way to every other one."""
    spin = "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)); os.sched_setaffinity(0, {%d})\n"
    commands = [[sys.executable, "-c", spin % core + "while True: pass"] for core in cores]
    running = [subprocess.Popen(command) for command in commands]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measure(workspace: Path, cores: list[int], arguments: argparse.Namespace) -> "Load":
    """Serve from one core and ask from another."""
    os.sched_setaffinity(0, set(cores))
    with Served(workspace, cores[0]) as server:
        os.sched_setaffinity(0, {cores[-1]})
        load = Load(server, arguments)
        asyncio.run(load.run())
        load.cpu_s += server.cpu_s()
    return load


@dataclass
class Load:
    """Pages and posts at random moments (Poisson), until the time is over."""

    server: Served
    settings: argparse.Namespace
    page_ms: list[float] = field(default_factory=list)
    server_ms: list[float] = field(default_factory=list)
    post_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    """How much later than meant a request was really sent: what the client itself adds."""

    num_fallbacks: int = 0
    """Pages that were not ready within the budget."""
    cpu_s: float = 0.0
    """How long the server kept a processor busy after the warm-up."""

    async def run(self) -> None:
        """Send everything, and wait for the last answer."""
        self._free: list[Connection] = []
        generator = np.random.default_rng(0)
        whole = self.settings.warm_up + self.settings.seconds
        self._begin = time.perf_counter() + 0.2
        arrivals = []
        for rate, send in ((self.settings.rate, self._page), (self.settings.event_rate, self._post)):
            moments = np.cumsum(generator.exponential(1 / rate, int(2 * rate * whole) + 10)) if rate else np.empty(0)
            users = generator.integers(self.settings.users, size=len(moments))
            arrivals += [(float(at), send, int(user)) for at, user in zip(moments, users, strict=True) if at < whole]
        tasks = [asyncio.create_task(self._start_counting())]
        for at, send, user in sorted(arrivals, key=lambda one: one[0]):
            await _until(self._begin + at)
            tasks.append(asyncio.create_task(send(at, user)))
        await asyncio.gather(*tasks)
        for connection in self._free:
            connection.close()

    async def _start_counting(self) -> None:
        await asyncio.sleep(self._begin + self.settings.warm_up - time.perf_counter())
        self.cpu_s -= self.server.cpu_s()

    async def _ask(self, at: float, method: str, path: str, status: int, body: bytes = b"") -> tuple[float, bytes]:
        """The milliseconds since the moment at which it was meant to be sent, and the answer."""
        if at >= self.settings.warm_up:
            self.late_ms.append((time.perf_counter() - self._begin - at) * 1000)
        while self._free and not self._free[-1].is_fresh():
            self._free.pop().close()
        connection = self._free.pop() if self._free else await Connection.open(self.server.host, self.server.port)
        found, answer = await connection.ask(method, path, body)
        took_ms = (time.perf_counter() - self._begin - at) * 1000
        self._free.append(connection)
        assert found == status, answer
        return took_ms, answer

    async def _page(self, at: float, user: int) -> None:
        path = f"/v1/recommendations?user_id=user-{user}&k={self.settings.k}"
        took_ms, answer = await self._ask(at, "GET", path, 200)
        if at >= self.settings.warm_up:
            page = json.loads(answer)
            if page["fallback"]:  # its time counts like any other
                self.num_fallbacks += 1
            else:
                assert len(page["rows"]) == 2 + self.settings.collections, len(page["rows"])
                assert all(len(row["items"]) == self.settings.k for row in page["rows"])
            self.page_ms.append(took_ms)
            self.server_ms.append(page["latency_ms"])

    async def _post(self, at: float, user: int) -> None:
        event = {"user_id": f"user-{user}", "item_id": user % self.settings.items, "feedback": {"played": 1.0}}
        took_ms, _ = await self._ask(at, "POST", "/v1/events", 201, json.dumps({"events": [event]}).encode())
        if at >= self.settings.warm_up:
            self.post_ms.append(took_ms)


async def _until(moment: float) -> None:
    """Wait for a moment: the last 2 ms awake, because timers are late by a millisecond, which is not the server's."""
    await asyncio.sleep(max(0.0, moment - 0.002 - time.perf_counter()))
    while time.perf_counter() < moment:
        await asyncio.sleep(0)


def as_rows(arguments: argparse.Namespace, load: Load, load_before: float, how: str) -> list[dict[str, Any]]:
    """A row per percentile of what the clients saw, what the server said, and how late the clients were."""
    settings = {key: value for key, value in vars(arguments).items() if not isinstance(value, Path)}
    known = {
        "benchmark": "serving",
        "dataset": f"synthetic, {arguments.items:,} items, {arguments.users:,} users",
        "protocol": f"{arguments.rate:g} pages and {arguments.event_rate:g} posted events a second, Poisson, for"
        f" {arguments.seconds:g} s after a warm-up; {arguments.k} items in each of {2 + arguments.collections} rows;"
        f" from the moment a request was meant to be sent; server on one core, clients on another; the machine's load"
        f" was {load_before:.1f} before",
        "model": "sasrec",
        "settings": settings,
        "k": None,
        "low": None,
        "high": None,
        "seeds": 1,
        "minutes": None,
        "command": "python benchmarks/serve.py" + _changed(arguments),
        "commit": commit(),
        "machine": machine("1 core for the server", packages=("torch", "uvicorn", "litestar")),
    }
    figures = [
        ("page, seen by the client", load.page_ms),
        ("page, inside the server", load.server_ms),
        ("post, seen by the client", load.post_ms),
        ("how late the client sent", load.late_ms),
    ]
    cpu_ms = known | {
        "variant": f"page and its share of the posts, inside the server{how}",
        "metric": "cpu_ms",
        "value": round(1000 * load.cpu_s / len(load.page_ms), 2),
    }
    fallbacks: dict[str, Any] = known | {
        "variant": f"page over budget{how}",
        "metric": "requests",
        "value": load.num_fallbacks,
    }
    return [cpu_ms, fallbacks] + [
        known | {"variant": variant + how, "metric": metric, "value": value}
        for variant, some in figures
        if some
        for metric, value in [
            *((_name(p), round(float(np.percentile(some, p)), 2)) for p in PERCENTILES),
            ("requests", float(len(some))),
        ]
    ]


def _name(percentile: int) -> str:
    return "max_ms" if percentile == 100 else f"p{percentile}_ms"


def _changed(arguments: argparse.Namespace) -> str:
    """The options that say how large and how fast."""
    shown = ("items", "users", "rate", "event_rate", "seconds")
    return "".join(f" --{name.replace('_', '-')} {getattr(arguments, name):g}" for name in shown)


if __name__ == "__main__":
    main()

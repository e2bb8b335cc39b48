"""A client that costs little: what it adds would count as the server's time."""

import asyncio
import time
from typing import Self

__all__ = ["Connection"]


class Connection:
    """One connection that is kept open: HTTP 1.1, as little of it as a client needs."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._used = time.perf_counter()

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Send a request and wait for the answer: status and body."""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self._writer.write(head.encode() + b"\r\n\r\n" + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        length = next(int(line.removeprefix("content-length:")) for line in lines if line.startswith("content-length:"))
        answer = await self._reader.readexactly(length)
        self._used = time.perf_counter()
        return int(lines[0].split()[1]), answer

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        """Connect."""
        return cls(*await asyncio.open_connection(host, port, limit=1 << 22))

    def is_fresh(self) -> bool:
        """Whether the server still has it open: it closes what was idle for five seconds."""
        return time.perf_counter() - self._used < 4

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

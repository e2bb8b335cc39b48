"""Epochs by turns: a process trains an epoch whenever it is told to, and says what the epoch took.

Only the standard library is used: peers run this in environments of their own.
"""

import json
import resource
import sys
import time

__all__ = ["Pace"]


class Pace:
    """The clock of one trainer: `start` before an epoch, `end` after it."""

    def __init__(self, epochs: int, targets: int) -> None:
        self.left, self.targets = epochs, targets

    def start(self) -> None:
        """Wait for the word to go."""
        print(json.dumps({"ready": True}), flush=True)
        if not sys.stdin.readline():
            sys.exit("the benchmark went away")
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def end(self) -> bool:
        """Say what the epoch took; returns whether another one follows."""
        took = {
            "seconds": time.perf_counter() - self._wall,
            "cpu_seconds": time.process_time() - self._cpu,
            "targets": self.targets,
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        }
        self.left -= 1
        print(json.dumps(took), flush=True)
        return self.left > 0

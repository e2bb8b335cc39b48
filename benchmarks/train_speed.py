"""How fast SASRec trains on MovieLens-1M, beside a plain PyTorch loop and RecTools, each a process of its own.

    UPNEXT_DATA=… python benchmarks/train_speed.py --epochs 4

Width 64, 2 layers, 1 head, 200 events, softmax over the whole catalogue, dropout 0.2, float32 unless `--set
training.precision=bfloat16` is given. The three train an epoch each by turns: while one trains, the others wait. An
epoch is timed from its first batch to its last, without set-up and validation; upnext's includes its checkpoints.
They see the same events, each user's last 201 of the training part of leave-last-out: RecTools reads no more than
200. Targets are counted, and seconds given per million of them too: upnext and the plain loop also predict each
user's first event. Feed-forward layers are as wide as the model, as in RecTools. Peak memory is that of the process.

RecTools gets a virtual environment of its own, made once. Results go to docs/results/train_speed.json.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from record import commit, machine

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "train_speed.json"
TRAINERS = Path(__file__).parent / "trainers"
PEER = "rectools 0.19.0"
REQUIREMENTS = ["rectools[torch]==0.19.0", "numpy<2", "torch<2.14"]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "upnext" / "peers" / "rectools-0.19.0"


@dataclass(frozen=True)
class Trainer:
    """A process that trains an epoch when it is told to, and what its epochs took."""

    name: str
    process: subprocess.Popen[str]
    epochs: list[dict[str, float]] = field(default_factory=list)

    def hear(self) -> dict[str, Any]:
        """Read the next line that is for us; libraries print lines of their own."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                said: dict[str, Any] = json.loads(line)
                return said
        raise SystemExit(f"{self.name} ended with exit code {self.process.wait()}; see its messages above")

    def train(self) -> None:
        """Let it train one epoch; it is ready and waits."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.epochs.append(self.hear())


def main() -> None:
    """Start the trainers one after the other, let them train by turns, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4, help="epochs of each")
    parser.add_argument("--threads", type=int, default=2, help="of each")
    parser.add_argument("--peer-env", type=Path, default=CACHE, help="where RecTools' environment is or will be")
    parser.add_argument("--without-peer", action="store_true", help="only upnext and the plain loop")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--set", nargs="*", default=[], help="settings of upnext's model, e.g. training.seed=1")
    arguments = parser.parse_args()
    pythons = {"upnext": Path(sys.executable), "plain loop": Path(sys.executable)}
    if not arguments.without_peer:
        pythons[PEER] = peer_python(arguments.peer_env)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        trainers = [
            stack.enter_context(started(name, python, Path(folder), arguments)) for name, python in pythons.items()
        ]
        for _ in range(arguments.epochs):
            for trainer in trainers:
                trainer.train()
                if len(trainer.epochs) < arguments.epochs:
                    trainer.hear()  # ready again, once what belongs to the epoch's end is done
                print(f"{trainer.name:16} {trainer.epochs[-1]['seconds']:.1f} s", flush=True)
    rows = as_rows(arguments, trainers, load)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['variant']:16} {row['metric']:32} {row['value']:g} [{row['low']:g}, {row['high']:g}]")


def peer_python(folder: Path) -> Path:
    """The interpreter of RecTools' environment, which is made where there is none."""
    python, stamp = folder / "bin" / "python", folder / ".installed"
    if not stamp.exists() or stamp.read_text().split("\n") != REQUIREMENTS:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True, env=_environment(PEER))
        stamp.write_text("\n".join(REQUIREMENTS))
    return python


def _environment(name: str) -> dict[str, str]:
    """The peer must not see packages that PYTHONPATH offers to us."""
    return {key: value for key, value in os.environ.items() if name != PEER or key != "PYTHONPATH"}


@contextlib.contextmanager
def started(name: str, python: Path, folder: Path, arguments: argparse.Namespace) -> Iterator[Trainer]:
    """Start a trainer and wait until it is ready to train; stop it at the end.

    This process stays small on purpose: a child's peak of memory starts at that of the process it came from.
    """
    script = TRAINERS / f"{name.split()[0]}_sasrec.py"
    command = [str(python), str(script), "--folder", str(folder), "--epochs", str(arguments.epochs)]
    if name == "upnext":
        command += ["--set", *arguments.set]
    environment = _environment(name) | {"OMP_NUM_THREADS": str(arguments.threads), "OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=TRAINERS.parent.parent
    )
    trainer = Trainer(name, process)
    try:
        trainer.hear()
        yield trainer
    finally:
        process.terminate()
        process.wait()


def as_rows(arguments: argparse.Namespace, trainers: list[Trainer], load: float) -> list[dict[str, Any]]:
    """Rows of docs/results: each trainer's figures, then how many times ours the others take, turn by turn."""
    command = f"python benchmarks/train_speed.py --epochs {arguments.epochs} --threads {arguments.threads}"
    known = {
        "benchmark": "train_speed",
        "dataset": "ml-1m",
        "model": "sasrec",
        "protocol": "width 64, 2 layers, 1 head, 200 events, full softmax; an epoch each by turns; the median",
        "settings": {"set": arguments.set, "threads": arguments.threads, "load_before": round(load, 2)},
        "k": None,
        "seeds": 1,
        "minutes": None,
        "commit": commit(),
        "machine": machine(f"{arguments.threads} threads"),
        "command": command + (f" --set {' '.join(arguments.set)}" if arguments.set else ""),
    }
    figures: dict[tuple[str, str], list[float]] = {}
    for trainer in trainers:
        for metric in ("seconds", "cpu_seconds", "targets", "peak_gb"):
            figures[trainer.name, metric] = [epoch[metric] for epoch in trainer.epochs]
        figures[trainer.name, "seconds_per_million_targets"] = [
            1e6 * epoch["seconds"] / epoch["targets"] for epoch in trainer.epochs
        ]
    ours = trainers[0].name
    suffix = f" (upnext with {' '.join(arguments.set)})" if arguments.set else ""
    for trainer in trainers[1:]:
        for metric in ("seconds", "cpu_seconds", "seconds_per_million_targets", "peak_gb"):
            pairs = zip(figures[trainer.name, metric], figures[ours, metric], strict=True)
            figures[trainer.name, f"{metric}_over_upnext"] = [theirs / our for theirs, our in pairs]
    return [
        known | {"variant": variant + suffix, "metric": metric} | _spread(values)
        for (variant, metric), values in figures.items()
    ]


def _spread(values: list[float]) -> dict[str, float]:
    figures = {"value": median(values), "low": min(values), "high": max(values)}
    return {name: float(f"{value:.6g}") for name, value in figures.items()}


if __name__ == "__main__":
    main()

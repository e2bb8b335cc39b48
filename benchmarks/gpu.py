"""How fast ARGUS trains on a GPU: events/s, model FLOP utilisation and peak memory, by size and history.

    python benchmarks/gpu.py [--sizes mini small medium large] [--lengths 512 2048 8192] [--peak-tflops 989]

The real training step (objective, backward pass, optimiser) on synthetic histories of full length, in bfloat16 with
`scaled_dot_product_attention`: sampled softmax with 8,192 in-batch and 8,192 uniform negatives, a hashed matrix of
512 Ki rows with sparse gradients, 100,000 items, `--events` events in a batch. Utilisation is model FLOPs (see
docs/how-it-works.md; attention counts the pairs that causality leaves, and nothing that is computed twice) per second
over the device's peak for dense bfloat16 products. What does not fit into memory says so. Without a CUDA device it
ends with exit code 2. Rows go to docs/results/gpu.json.
"""

import argparse
import json
import re
import resource
import sys
from pathlib import Path
from typing import Any

import torch
from histories import make_chunks, make_objective
from record import commit, machine

from upnext.models.argus import SIZES
from upnext.objectives.cost import StepShape, flops_of
from upnext.training.loop import TrainingConfig, rehearse

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "gpu.json"
NUM_ITEMS, NUM_DRAWN, ROWS = 100_000, 8192, 512 * 1024
PEAK_TFLOPS = {
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "A10": 125.0,
}
"""Dense bfloat16 products, from NVIDIA's data sheets (half of what they print with sparsity); longer names first."""


def main() -> int:
    """Measure every point and write the rows; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=size_of, default=list(SIZES), help="names, or layers x width")
    parser.add_argument("--lengths", nargs="+", type=int, default=[512, 2048, 8192], help="events of a history")
    parser.add_argument("--forms", nargs="+", choices=["simplified", "full"], default=["simplified", "full"])
    parser.add_argument("--events", type=int, default=16_384, help="events in a batch")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of a point, after one to warm up")
    parser.add_argument("--peak-tflops", type=float, help="of the device, dense bfloat16; known for some devices")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu is there to try the script")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(
            "error: this machine has no CUDA device; run it where there is one, or try the script with\n"
            "  python benchmarks/gpu.py --device cpu --sizes 1x16 --lengths 32 --events 256 --results /tmp/gpu.json",
            file=sys.stderr,
        )
        return 2
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu"
    peak = arguments.peak_tflops or next((peak for known, peak in PEAK_TFLOPS.items() if known in name), None)
    if peak is None:
        print(f"the peak of {name!r} is not known here: no utilisation; give --peak-tflops", file=sys.stderr)
    rows = []
    for size in arguments.sizes:
        for length in arguments.lengths:
            for form in arguments.forms:
                rows += point(size, length, form, arguments, name, peak)
    arguments.results.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def size_of(text: str) -> str | tuple[int, int]:
    """A named size, or layers and width."""
    if text in SIZES:
        return text
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size; write {', '.join(SIZES)}, or layers x width as in 4x256"
        )
    return int(match[1]), int(match[2])


def point(
    size: str | tuple[int, int], length: int, form: str, arguments: argparse.Namespace, name: str, peak: float | None
) -> list[dict[str, Any]]:
    """Measure one size, length and form: its rows, none where it does not fit."""
    said = size if isinstance(size, str) else "x".join(map(str, size))
    label = f"{said}, {form}, history {length}"
    try:
        found = measure(size, length, form, arguments, peak)
    except torch.OutOfMemoryError:
        print(f"{label}: does not fit into the memory of {name}", flush=True)
        return []
    print(f"{label}: " + ", ".join(f"{metric} {value:g}" for metric, value in found.items()), flush=True)
    known = {
        "benchmark": "gpu",
        "dataset": "synthetic",
        "model": "argus",
        "protocol": "a training step, bfloat16, sampled softmax",
        "settings": {"events": arguments.events, "steps": arguments.steps, "peak_tflops": peak},
        "variant": label,
        "low": None,
        "high": None,
        "k": None,
        "seeds": 1,
        "minutes": None,
        "commit": commit("benchmarks/gpu.py"),
        "machine": machine(name),
        "command": "python benchmarks/gpu.py",
    }
    return [known | {"metric": metric, "value": value} for metric, value in found.items()]


def measure(
    size: str | tuple[int, int], length: int, form: str, arguments: argparse.Namespace, peak: float | None
) -> dict[str, float]:
    """Train some steps: events/s, TFLOP/s, utilisation where the peak is known, peak memory."""
    device, count = torch.device(arguments.device), max(1, arguments.events // length)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    chunks = make_chunks(count * arguments.steps, length, 1, NUM_ITEMS)
    objective = make_objective(size, form, length, NUM_ITEMS, NUM_DRAWN, ROWS, device)
    config = TrainingConfig(tokens_per_batch=count * (length + 1), precision="bfloat16", device=arguments.device)
    timed = rehearse(objective, objective, chunks, config, lambda batches: range(len(batches)), limit_s=120)
    seconds, steps = sum(timed.seconds.values()), len(timed.seconds)
    events = count * (length + 1)
    shape = StepShape(count, length + 1, events, events, min(events, NUM_ITEMS))
    flops_per_s = flops_of(objective, shape).training * steps / seconds
    used = (
        torch.cuda.max_memory_allocated()
        if device.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    found = {"events_per_s": events * steps / seconds, "tflops_per_s": flops_per_s / 1e12, "peak_gb": used / 1e9}
    if peak is not None:
        found["utilisation"] = flops_per_s / (peak * 1e12)
    return {metric: float(f"{value:.4g}") for metric, value in found.items()}


if __name__ == "__main__":
    sys.exit(main())

"""`upnext score --model NAME`: what a student of learning-to-rank files says of every document of one."""

import json
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from upnext.base.artifacts import Workspace
from upnext.base.batches import NO_ITEMS
from upnext.base.errors import BadConfig
from upnext.base.files import replace_file
from upnext.commands.opened import check_folder, use_threads
from upnext.events.sources.letor import feature_number, read_queries
from upnext.fitting.distillation import OverFeatures, scores_of
from upnext.models.build import load_any

__all__ = ["score_queries"]


def score_queries(
    workspace: Path, model: str, queries: Path, out: Path, as_json: bool, console: Console, threads: int | None = None
) -> None:
    """Write one raw score a line, in the order of the documents: a file as `distill.NAME.scores` reads it.

    Raises:   BadConfig: the model is no student of learning-to-rank files, or a place cannot be written to. BadData:
              the file of queries cannot be read.
    """
    check_folder(out)
    use_threads(threads)
    start = time.perf_counter()
    student = _student(Workspace.existing(workspace), model)
    numbers = [feature_number(name) for name in student.reads]
    sets = read_queries(queries, max(numbers))
    scores = scores_of(student, sets)
    replace_file(out, "".join(f"{score:.9g}\n" for score in scores).encode())
    seconds = time.perf_counter() - start
    if as_json:
        said = {"out": str(out), "model": model, "queries": len(sets), "rows": len(scores), "seconds": seconds}
        console.print_json(json.dumps(said), indent=None)
    else:
        console.print(
            f"{len(scores):,} documents of {len(sets):,} queries in {escape(str(out))}  [dim]{seconds:.1f} s[/dim]"
        )


def _student(workspace: Workspace, name: str) -> OverFeatures:
    artifact = workspace.current(f"model-{name}", "model")
    if artifact.manifest["schema"]:  # that of a log
        raise BadConfig(
            f"--model {name}: it was taught on a log, and is asked through a release; publish it, and leave --model out"
        )
    student = load_any(artifact.folder, NO_ITEMS)
    assert isinstance(student, OverFeatures)
    return student

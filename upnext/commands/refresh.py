"""`upnext refresh`: users' states computed anew, for servers to read."""

import json
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from upnext.base.artifacts import Workspace
from upnext.base.errors import BadArtifact, BadRequest
from upnext.base.locks import hold, share
from upnext.commands.opened import use_threads
from upnext.serving.release import Release
from upnext.serving.states import refresh
from upnext.store.embedded import LmdbStore

__all__ = ["refresh_states"]


def refresh_states(folder: Path, everyone: bool, as_json: bool, console: Console, threads: int | None = None) -> None:
    """Compute the states of users with new events, or of everyone; a running server reads them from its next page on.

    Raises:   BadRequest: the release stores no states. BadArtifact: another refresh, or `log forget`, is at work.
    """
    use_threads(threads)
    workspace = Workspace.existing(folder)
    release = Release.load(workspace.current("release", "release", verify=False).folder)
    start, live_folder = time.perf_counter(), folder / "live"
    try:
        if not release.stores_states:
            raise BadRequest(
                f"the release retrieves with {release.settings.retriever!r}, which encodes users when they ask: nothing"
                " is to be refreshed; two towers with a lag (upnext finetune) have states that are stored"
            )
        with share(live_folder), hold(live_folder / "refreshing"), Progress(console=Console(stderr=True)) as progress:
            live = LmdbStore(live_folder)
            task = progress.add_task("users", total=None)
            done = refresh(
                release,
                live,
                time.time_ns() // 1_000_000 + 1,  # what was posted in this very millisecond counts
                everyone=everyone,
                releases=[path.name for path in workspace.folders("release")],
                tell=lambda count: progress.advance(task, count),
            )
            live.close()
    except BlockingIOError as error:
        raise BadArtifact(f"process {error} is refreshing or changing {folder}; wait for it, then try again") from None
    finally:
        release.histories.close()
    seconds = time.perf_counter() - start
    if as_json:
        said = {"release": release.name, "computed": done.num_computed, "kept": done.num_kept, "seconds": seconds}
        console.print_json(json.dumps(said), indent=None)
    else:
        console.print(
            f"{done.num_computed:,} users' states computed, {done.num_kept:,} refreshed before kept"
            f"  [dim]{seconds:.1f} s[/dim]"
        )

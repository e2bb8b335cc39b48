"""The command line: one line per command. Imports are inside, so that `upnext --help` answers at once."""

import errno
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from upnext.base.errors import UserError
from upnext.cli_groups import items, log, releases
from upnext.cli_options import AsJson, Context, File, HasRelease, Resume, Set, Threads

__all__ = ["app", "main"]

app = typer.Typer(
    name="upnext",
    help="From an event log to served recommendations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(releases, name="releases")
app.add_typer(log, name="log")
app.add_typer(items, name="items")


def _stages(
    file: Path,
    overrides: list[str] | None,
    *,
    only: str | None = None,
    until: str | None = None,
    resume: bool = False,
    live: bool = False,
) -> None:
    from rich.console import Console

    from upnext.commands.project import load_any_project
    from upnext.commands.run import run_stages

    run_stages(load_any_project(file, overrides or []), Console(), only=only, until=until, resume=resume, live=live)


@app.command()
def run(
    file: File,
    overrides: Set = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="the last stage to run")] = None,
    resume: Resume = False,
) -> None:
    """Run every stage, from simulate to serve, in the order of this list. What is up to date is skipped."""
    from upnext.commands.run import STAGES

    if until is not None and until not in STAGES:
        raise typer.BadParameter(f"{until!r} is no stage; choose one of {', '.join(STAGES)}", param_hint="--until")
    _stages(file, overrides, until=until, resume=resume)


@app.command()
def init(
    file: Annotated[str, typer.Argument(help="a table: CSV, TSV, JSON lines or Parquet; a pattern for several files")],
    out: Annotated[Path | None, typer.Option(help="the project's file; project.toml if left out")] = None,
    user: Annotated[str | None, typer.Option(metavar="COLUMN", help="the column of users")] = None,
    item: Annotated[str | None, typer.Option(metavar="COLUMN", help="the column of items")] = None,
    time: Annotated[str | None, typer.Option(metavar="COLUMN", help="the column of times")] = None,
    items: Annotated[str | None, typer.Option(metavar="FILE", help="a table of items")] = None,
    users: Annotated[str | None, typer.Option(metavar="FILE", help="a table of users")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the guesses as JSON; writes only with --out")] = False,
) -> None:
    """Look at a table, guess what its columns are, and write a project that `upnext run` accepts."""
    from rich.console import Console

    from upnext.commands.init import init_project

    given = {role: column for role, column in (("user", user), ("item", item), ("time", time)) if column is not None}
    sides = {owner: side for owner, side in (("item", items), ("user", users)) if side is not None}
    init_project(file, out, given, as_json, Console(), sides)


@app.command()
def simulate(
    file: Annotated[Path | None, typer.Argument(help="a project's TOML file with a table [simulate]")] = None,
    out: Annotated[Path | None, typer.Option(help="write the source files into this folder instead")] = None,
    overrides: Set = None,
) -> None:
    """Make a synthetic streaming service: a log, items, users and, apart, the truth."""
    if out is None:
        if file is None:
            raise typer.BadParameter("give a project's TOML file, or a folder with --out")
        _stages(file, overrides, only="simulate")
        return
    from upnext.commands.simulate import into_folder, settings_of

    num_events = into_folder(settings_of(file, overrides or []), out)
    typer.echo(f"{num_events:,} events in {out}")


@app.command()
def prepare(file: File, overrides: Set = None) -> None:
    """Source files -> event log, vocabularies, split, audit."""
    _stages(file, overrides, only="prepare")


@app.command()
def pretrain(file: File, overrides: Set = None, resume: Resume = False) -> None:
    """Event log -> models."""
    _stages(file, overrides, only="pretrain", resume=resume)


@app.command()
def finetune(file: File, overrides: Set = None, resume: Resume = False) -> None:
    """Pre-trained models, impressions -> two towers."""
    _stages(file, overrides, only="finetune", resume=resume)


@app.command()
def rank(file: File, overrides: Set = None, resume: Resume = False) -> None:
    """Event log -> rankers."""
    _stages(file, overrides, only="rank", resume=resume)


@app.command()
def distill(
    file: File,
    overrides: Set = None,
    resume: Resume = False,
    live: Annotated[bool, typer.Option("--live", help="only students that learn beside their teachers")] = False,
) -> None:
    """Rankers -> small students, taught what their teachers say of candidates that these never saw."""
    _stages(file, overrides, only="distill", resume=resume, live=live)


@app.command()
def evaluate(file: File, overrides: Set = None) -> None:
    """Models -> report."""
    _stages(file, overrides, only="evaluate")


@app.command()
def publish(file: File, overrides: Set = None) -> None:
    """Models -> release."""
    _stages(file, overrides, only="publish")


@app.command()
def serve(
    target: Annotated[Path, typer.Argument(help="the project's TOML file, or the folder of a workspace")],
    release: Annotated[str | None, typer.Option(metavar="URL", help="pull releases from there")] = None,
    overrides: Set = None,
) -> None:
    """Release -> HTTP service and page. Another release is swapped in when there is one."""
    from rich.console import Console

    from upnext.commands.serve import serve_release

    serve_release(target, release, overrides or [], Console())


@app.command()
def describe(file: File, overrides: Set = None, as_json: AsJson = False) -> None:
    """Say what each model costs before it is trained: parameters, FLOPs, memory, expected time on this machine."""
    from rich.console import Console

    from upnext.commands import describe as commands
    from upnext.commands.project import load_project

    commands.describe(load_project(file, overrides or []), Console(), as_json=as_json)


@app.command()
def scaling(
    file: File,
    sizes: Annotated[str, typer.Option(metavar="2x64,3x128", help="layers x width, or mini, small, medium, large")],
    lengths: Annotated[str, typer.Option(metavar="32,128,512", help="the longest history, in events")],
    model: Annotated[str | None, typer.Option(help="a name in [pretrain]; left out: the only one trained")] = None,
    at_size: Annotated[str | None, typer.Option(help="the size that lengths are compared in; the last")] = None,
    at_length: Annotated[int | None, typer.Option(help="the length that sizes are compared at; the last")] = None,
    ablations: Annotated[bool, typer.Option("--ablations", help="also other views, and fine-tuning")] = False,
    cases: Annotated[int, typer.Option(min=1, help="held-out requests of each part")] = 2000,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="WORKSPACE/scaling if left out")] = None,
    overrides: Set = None,
    resume: Resume = False,
) -> None:
    """Train one model in several sizes and history lengths; fit and plot its losses against both."""
    from rich.console import Console

    from upnext.commands.project import load_project
    from upnext.commands.scaling import Asked, run_scaling

    asked = Asked(sizes, lengths, model, at_size, at_length, ablations, cases)
    run_scaling(load_project(file, overrides or []), asked, out, Console(), resume=resume)


@app.command()
def recommend(
    workspace: HasRelease,
    user: Annotated[list[str] | None, typer.Option("--user", "-u", help="a user's id; repeatable")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="every user of the release, into --out")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE.parquet", help="with --all: the file to write")] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="items per row")] = 10,
    context: Context = None,
    unfamiliar: Annotated[bool, typer.Option("--unfamiliar", help="only items that the user never met")] = False,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, a line per user")] = False,
) -> None:
    """Recommend to users what the current release would serve them."""
    if everyone == bool(user) or everyone != (out is not None):
        raise typer.BadParameter("give --user ID, once or more, or --all with --out FILE.parquet")
    from rich.console import Console

    from upnext.commands.recommend import Setting, recommend_all, recommend_users

    setting = Setting(context or [], unfamiliar)
    if out is not None:
        recommend_all(workspace, out, k, as_json, Console(), threads, setting)
    else:
        recommend_users(workspace, user or [], k, as_json, Console(), threads, setting)


@app.command()
def similar(
    workspace: HasRelease,
    item: Annotated[str, typer.Argument(help="the item's id")],
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="how many")] = 10,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """List the items whose vectors are nearest to an item's."""
    from rich.console import Console

    from upnext.commands.similar import print_similar

    print_similar(workspace, item, k, as_json, Console(), threads)


@app.command()
def generate(
    workspace: HasRelease,
    user: Annotated[str, typer.Option("--user", "-u", help="the user's id")],
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="how many events")] = 5,
    context: Context = None,
    temperature: Annotated[float | None, typer.Option(help="draw items and feedback; left out: the likeliest")] = None,
    seed: Annotated[int, typer.Option(help="of what is drawn")] = 0,
    step: Annotated[str | None, typer.Option(metavar="DURATION", help="between events; else the median gap")] = None,
    repeats: Annotated[bool, typer.Option("--repeats", help="an item may come again")] = False,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Roll out what a user would do next: items, times and feedback, each event told to the model before the next."""
    from rich.console import Console

    from upnext.commands.generate import print_future

    drawing = {"temperature": temperature, "seed": seed, "step": step, "repeats": repeats}
    print_future(workspace, user, k, context or [], drawing, as_json, Console(), threads)


@app.command()
def choose(
    workspace: HasRelease,
    user: Annotated[str, typer.Option("--user", "-u", help="the user's id")],
    items: Annotated[list[str] | None, typer.Argument(help="ids of candidates")] = None,
    candidates: Annotated[Path | None, typer.Option(metavar="FILE", help="more of them, an id on each line")] = None,
    k: Annotated[int | None, typer.Option("-k", help="at most so many; left out: all")] = None,
    threshold: Annotated[float | None, typer.Option(help="only those of whom so much is expected")] = None,
    context: Context = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Order candidates by what the release expects of them: the best k, all that reach a threshold, or all."""
    from rich.console import Console

    from upnext.commands.choose import print_chosen
    from upnext.commands.recommend import Setting

    setting = Setting(context or [])
    print_chosen(workspace, user, items or [], candidates, k, threshold, setting, as_json, Console(), threads)


@app.command()
def score(
    workspace: Annotated[Path, typer.Argument(help="the folder that holds a release, or the model of --model")],
    table: Annotated[Path, typer.Argument(help="a Parquet table with user_id, item_id, time, and contexts if any")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="the file to write; its name ends in .parquet")],
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="a student of learning-to-rank files; TABLE is such a file, --out a text"),
    ] = None,
    vectors: Annotated[bool, typer.Option("--vectors", help="also the vectors of user and item")] = False,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Write what the release says of every row of a table, from what was known just before the row's time.

    With --model, what a student of learning-to-rank files says of every document of one, a number on each line.
    """
    if model is not None and vectors:
        raise typer.BadParameter("--vectors goes with a release; a student of learning-to-rank files has none")
    from rich.console import Console

    if model is not None:
        from upnext.commands.score_queries import score_queries

        score_queries(workspace, model, table, out, as_json, Console(), threads)
    else:
        from upnext.commands.score import score_table

        score_table(workspace, table, out, vectors, as_json, Console(), threads)


@app.command()
def refresh(
    workspace: HasRelease,
    everyone: Annotated[bool, typer.Option("--all", help="everyone, not only users with new events")] = False,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Compute stored user vectors anew, posted events included. A running server reads them from its next page on."""
    from rich.console import Console

    from upnext.commands.refresh import refresh_states

    refresh_states(workspace, everyone, as_json, Console(), threads)


@app.command()
def doctor(
    workspace: Annotated[Path | None, typer.Argument(help="a workspace to look into as well")] = None,
    as_json: AsJson = False,
) -> None:
    """Check the environment, and a workspace: what is missing, damaged, stale or slow, and what to do."""
    from rich.console import Console

    from upnext.commands.doctor import examine

    if not examine(workspace, as_json, Console()):
        raise typer.Exit(2)


_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG}


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 our bug, 2 the user's input."""
    # Read when torch is loaded. Threads that spin while they wait are a little faster on an idle machine, and more than
    # ten times slower where anything else runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(standalone_mode=True)
    except UserError as error:
        typer.secho("error: ", fg="red", bold=True, nl=False, err=True)
        typer.echo(str(error), err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            typer.echo(f"error: {error}; make room, or correct the path or its permissions", err=True)
            sys.exit(2)
        if os.environ.get("UPNEXT_TRACEBACK"):
            raise
        last = traceback.format_exc().strip().splitlines()[-1]
        typer.echo(f"upnext failed, and this is our bug: {last}\nset UPNEXT_TRACEBACK=1 to see where", err=True)
        sys.exit(1)

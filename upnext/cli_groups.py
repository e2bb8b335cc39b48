"""Commands in groups: `upnext releases`, `upnext log`, `upnext items`. As in `cli.py`, imports are inside."""

from pathlib import Path
from typing import Annotated

import typer

from upnext.cli_options import AsJson, File, HasRelease, Set

__all__ = ["items", "log", "releases"]

releases = typer.Typer(
    help="List releases, go back to one, or exchange them over HTTP.", no_args_is_help=True, rich_markup_mode=None
)
log = typer.Typer(help="What a log needs over the years.", no_args_is_help=True, rich_markup_mode=None)
items = typer.Typer(help="Add, change, hide and remove items.", no_args_is_help=True, rich_markup_mode=None)

TokenEnv = Annotated[str, typer.Option(metavar="NAME", help="the environment variable with the token of pushes")]
Items = Annotated[list[str], typer.Argument(help="the items' ids")]


@releases.command("list")
def list_releases(workspace: HasRelease, as_json: AsJson = False) -> None:
    """List releases: when they were made, their models, which is current, which a rollback would choose."""
    from rich.console import Console

    from upnext.commands.releases import print_releases

    print_releases(workspace, as_json, Console())


@releases.command()
def rollback(
    workspace: HasRelease,
    name: Annotated[str | None, typer.Argument(help="a release's name; left out: the one before")] = None,
) -> None:
    """Make an earlier release the current one, if all of its files are as they were written."""
    from rich.console import Console

    from upnext.commands.releases import roll_back

    roll_back(workspace, name, Console())


@releases.command("serve")
def serve_releases(
    workspace: HasRelease,
    host: Annotated[str, typer.Option(help="the address to listen on; 0.0.0.0 for every interface")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one")] = 8100,
    token_env: TokenEnv = "UPNEXT_RELEASES_TOKEN",
) -> None:
    """Offer releases over HTTP; with a token, take those that are pushed."""
    from rich.console import Console

    from upnext.commands.exchange import serve_releases as offer

    offer(workspace, host, port, token_env, Console())


@releases.command()
def pull(
    workspace: HasRelease,
    url: Annotated[str, typer.Argument(help="the address of `upnext releases serve`")],
    name: Annotated[str | None, typer.Argument(help="a release's name; left out: the current one there")] = None,
) -> None:
    """Fetch a release from elsewhere and make it current here; what is here already is not fetched again."""
    from rich.console import Console

    from upnext.commands.exchange import pull_release

    pull_release(workspace, url, name, Console())


@releases.command()
def push(
    workspace: HasRelease,
    url: Annotated[str, typer.Argument(help="the address of `upnext releases serve`")],
    name: Annotated[str | None, typer.Argument(help="a release's name; left out: the current one")] = None,
    current: Annotated[bool, typer.Option(help="make it the current one there")] = True,
    token_env: TokenEnv = "UPNEXT_RELEASES_TOKEN",
) -> None:
    """Send a release elsewhere; what is there already is not sent again."""
    from rich.console import Console

    from upnext.commands.exchange import push_release

    push_release(workspace, url, name, current, token_env, Console())


@log.command()
def compact(file: File, overrides: Set = None) -> None:
    """Write the log's segments as one, which is memory-mapped again; models and releases stay up to date."""
    from rich.console import Console

    from upnext.commands import log as commands
    from upnext.commands.project import load_project

    commands.compact(load_project(file, overrides or []), Console())


@log.command()
def forget(
    target: Annotated[Path, typer.Argument(help="the project's TOML file, or the folder of a workspace")],
    users: Annotated[list[str], typer.Argument(help="the users' ids")],
    overrides: Set = None,
) -> None:
    """Erase users from the log, the releases and the posted events, and keep them out of every later log."""
    from rich.console import Console

    from upnext.commands import forget as commands
    from upnext.commands.project import workspace_of

    commands.forget(workspace_of(target, overrides or []), users, Console())


@items.command("put")
def put_item(
    workspace: HasRelease,
    item: Annotated[str, typer.Argument(help="the item's id")],
    title: Annotated[str | None, typer.Option(help="its title")] = None,
    genre: Annotated[list[str] | None, typer.Option(help="a genre; repeatable")] = None,
    collection: Annotated[str | None, typer.Option(help="its collection")] = None,
    columns: Annotated[list[str] | None, typer.Option("--set", metavar="COLUMN=VALUE", help="another column")] = None,
) -> None:
    """Add an item to the catalogue, or change what is given of one. A running server shows it at once."""
    from rich.console import Console

    from upnext.commands.items import put_item as put

    put(workspace, item, title, genre or [], collection, columns or [], Console())


@items.command("hide")
def hide_items(workspace: HasRelease, ids: Items) -> None:
    """Take items out of every row until they are shown again."""
    from rich.console import Console

    from upnext.commands.items import set_availability

    set_availability(workspace, ids, False, Console())


@items.command("show")
def show_items(workspace: HasRelease, ids: Items) -> None:
    """Show hidden items again."""
    from rich.console import Console

    from upnext.commands.items import set_availability

    set_availability(workspace, ids, True, Console())


@items.command("remove")
def remove_items(workspace: HasRelease, ids: Items) -> None:
    """Take items out of every row for good; histories keep them."""
    from rich.console import Console

    from upnext.commands.items import change_items

    change_items(workspace, ids, "removed for good", Console(), is_removed=True)


@items.command("list")
def list_items(workspace: HasRelease, as_json: AsJson = False) -> None:
    """List the items that were changed since they came, and what each is now."""
    from rich.console import Console

    from upnext.commands.items import print_changes

    print_changes(workspace, as_json, Console())

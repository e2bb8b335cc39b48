"""Arguments and options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["AsJson", "Context", "File", "HasRelease", "Resume", "Set", "Threads"]

File = Annotated[Path, typer.Argument(help="the project's TOML file")]
HasRelease = Annotated[Path, typer.Argument(help="the folder that holds a release")]
Threads = Annotated[int | None, typer.Option(min=1, help="threads of a model; left out: one per core")]
Context = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="a context of the request; repeatable")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change one setting; repeatable")]
Resume = Annotated[bool, typer.Option("--resume", help="go on with a training that was interrupted")]

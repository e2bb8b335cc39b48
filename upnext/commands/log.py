"""`upnext log`: what a log needs over the years."""

from rich.console import Console
from rich.markup import escape

from upnext.commands.project import Project
from upnext.events.log import num_segments
from upnext.preparation.rewritten import compacted

__all__ = ["compact"]


def compact(project: Project, console: Console) -> None:
    """Write the segments of the log in use as one; nothing that was made from it has to be made again."""
    workspace = project.opened()
    log = workspace.current("log", "log")
    count = num_segments(log.folder / "log")
    if count == 1:
        console.print(f"[bold]log[/bold]  {escape(str(log.folder))} is one segment already; nothing to do")
        return
    made = compacted(workspace, log)
    console.print(f"[bold]log[/bold]  {escape(str(made.folder))}: {count} segments are one now")
    console.print(f"Models and releases stay up to date. Nothing reads {escape(log.name)} any more: you may delete it.")

"""The page and its files."""

from pathlib import Path

from litestar import get
from litestar.params import FromPath
from litestar.response import File

from upnext.base.errors import NotFound
from upnext.serving.intake import shown

__all__ = ["home", "page_file"]

_PAGE = Path(__file__).parent.parent / "page"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@get("/", include_in_schema=False)
async def home() -> File:
    """The page."""
    return File(path=_PAGE / "index.html", media_type="text/html", content_disposition_type="inline")


@get("/page/{name:str}", include_in_schema=False)
async def page_file(name: FromPath[str]) -> File:
    """A file of the page, and no other."""
    path = next((path for path in _PAGE.iterdir() if path.name == name and path.suffix in _TYPES), None)
    if path is None:
        raise NotFound(f"the page has no file {shown(name)}")
    return File(path=path, media_type=_TYPES[path.suffix], content_disposition_type="inline")

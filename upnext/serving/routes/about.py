"""What runs here, and whether it is well."""

from typing import Any

from litestar import get

from upnext.base.ids import FIRST
from upnext.serving.routes.asked import AnyRequest, service_of
from upnext.version import __version__

__all__ = ["describe", "health"]


@get("/health")
async def health(request: AnyRequest) -> dict[str, Any]:
    """Whether the service is well, and which release it runs."""
    service = service_of(request)
    return {"status": "ok", "release": service.release.name, "version": __version__}


@get("/v1/service")
async def describe(request: AnyRequest) -> dict[str, Any]:
    """What the page needs to know: title, actions, sizes."""
    release = service_of(request).release
    return {
        "title": release.settings.title,
        "release": release.name,
        "actions": [
            {"name": name, "label": name.replace("_", " ").capitalize(), "feedback": feedback}
            for name, feedback in release.settings.actions.items()
        ],
        "num_items": len(release.catalogue) - FIRST,
        "num_users": len(release.users.ids),
        "contexts": release.schema.contexts,
        "feedback": release.schema.feedback,
    }

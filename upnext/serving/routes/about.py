"""What runs here, and whether it is well."""

from typing import Any

from litestar import get

from upnext.base.ids import FIRST
from upnext.models.student import Student
from upnext.serving.histories import LiveEvent
from upnext.serving.routes.asked import AnyRequest, service_of
from upnext.serving.running import Running
from upnext.version import __version__

__all__ = ["describe", "health"]


@get("/health")
async def health(request: AnyRequest) -> dict[str, Any]:
    """Whether the service is well, which release it runs, and why it is not the next one, if there is one."""
    service = service_of(request)
    return {"status": "ok", "release": service.serves, "refused": service.refused, "version": __version__}


@get("/v1/service")
async def describe(request: AnyRequest) -> dict[str, Any]:
    """What the page needs to know: title, actions, sizes."""
    service = service_of(request)
    running = service.running
    release = running.release
    return {
        "title": release.settings.title,
        "release": release.name,
        "refused": service.refused,
        "compiled": isinstance(release.ranker, Student) and release.ranker.network is not None,
        "actions": _actions(running),
        "num_items": len(release.catalogue) - FIRST,
        "num_users": len(release.users.ids),
        "contexts": release.schema.contexts,
        "page_context": release.settings.page_context,
        "feedback": release.schema.feedback,
    }


def _actions(running: Running) -> list[dict[str, Any]]:
    """The page's buttons: what each posts, which of that is the part played, and whether it hides the item."""
    release = running.release
    posted = [
        LiveEvent(user_id="", item_id="", time_ms=0, event_id=name, feedback=feedback)
        for name, feedback in release.settings.actions.items()
    ]
    hides = [False] * len(posted)
    if release.settings.hide is not None and posted:
        hides = release.schema.select(release.settings.hide, running.histories.as_events(posted).columns).tolist()
    kinds = release.schema.feedback
    return [
        {
            "name": event.event_id,
            "label": event.event_id.replace("_", " ").capitalize(),
            "feedback": event.feedback,
            "part_played": next((name for name in event.feedback if kinds[name] == "fraction"), None),
            "hides": is_hidden,
        }
        for event, is_hidden in zip(posted, hides, strict=True)
    ]

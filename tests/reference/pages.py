"""A page, item by item: every item is scored alone, sorted, and put on the first row that has room for it."""

from typing import cast

import torch

from upnext.base.batches import Candidates
from upnext.base.ids import FIRST
from upnext.base.protocols import Link, Ranker
from upnext.models.build import AnyModel
from upnext.serving.histories import Histories
from upnext.serving.pasts import Pasts
from upnext.serving.recommend import Query
from upnext.serving.release import Release
from upnext.serving.retrieve import encode, make_request, readable


def slow_page(release: Release, histories: Histories, query: Query) -> dict[str, list[int]]:
    """The rows of a page by name; empty rows are left out."""
    ((events, _),) = histories.read([query.user_id])
    past = Pasts.join([events.take(events.time_ms < query.time_ms)])
    watched = past.events.views[release.view]
    hidden = set(past.events.item[watched].tolist())
    if release.settings.hide is not None:
        hidden |= set(past.events.item[release.schema.select(release.settings.hide, past.events.columns)].tolist())
    times = torch.tensor([query.time_ms]).numpy()
    request = make_request(release, times, torch.tensor([release.users.dense(query.user_id)]).numpy())

    def ranked(model: AnyModel) -> list[int]:
        with torch.inference_mode():
            state = encode(model, readable(model, past, times, release.settings.lag))
            scores = {
                item: float(model.score(state, request, torch.tensor([[item]]))[0, 0])
                for item in range(FIRST, len(release.catalogue))
                if item not in hidden
            }
        return sorted((item for item in scores if scores[item] > -torch.inf), key=lambda item: (-scores[item], item))

    best = ranked(release.retriever)
    of = {item: release.catalogue.describe(item)["collection"] for item in best}
    rows = [("for-you", best)]
    if release.popular is not None:
        rows.append(("popular", ranked(release.popular)))
    rows += [(name, [i for i in best if of[i] == name]) for name in sorted({c for c in of.values() if c is not None})]
    shown: set[int] = set()
    page = {}
    for name, items in rows:
        page[name] = [item for item in items if item not in shown][: query.k]
        shown |= set(page[name])
    return {name: items for name, items in page.items() if items}


def slow_expectations(release: Release, histories: Histories, query: Query, item: int) -> dict[str, float]:
    """What is expected of one item alone, by hand; all feedback is binary."""
    ((events, _),) = histories.read([query.user_id])
    past = Pasts.join([events.take(events.time_ms < query.time_ms - release.settings.lag)])
    times = torch.tensor([query.time_ms]).numpy()
    user = torch.tensor([release.users.dense(query.user_id)]).numpy()
    request = make_request(release, times, user, [query.context or {}])
    one = torch.tensor([[item]])
    candidates = Candidates(one, release.catalogue.items.item_hash[one], torch.ones(1, 1, dtype=torch.bool))
    assert release.ranker is not None
    ranker = cast("Ranker", release.ranker)
    assert set(ranker.components.values()) == {Link.SIGMOID}
    with torch.inference_mode():
        outputs = ranker.predict(encode(release.ranker, past), request, candidates)
    return {name: 1.0 / (1.0 + float(torch.exp(-output[0, 0]))) for name, output in outputs.items()}


def slow_utility(release: Release, histories: Histories, query: Query, item: int) -> float:
    """Every feedback's expectation, times its weight on the surface that asks."""
    surface = str((query.context or {}).get("surface"))
    weights = release.settings.surfaces.get(surface, release.settings.utility)
    expected = slow_expectations(release, histories, query, item)
    return sum(weight * expected[name] for name, weight in weights.items())

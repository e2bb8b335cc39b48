"""Drawn candidates and all that is told of them are of their moment: nothing that comes later changes anything."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.test_feedback import MODELS
from tests.evaluation.test_stages import CATALOGUE
from tests.events.logs import EVENTS, NUM_ITEMS, Event, log_of
from tests.pipeline.test_told import scorers_for
from tests.preparation.test_candidate_features import AGGREGATES, HAS, ITEMS, USERS
from upnext.base.batches import ItemTable
from upnext.base.errors import BadConfig
from upnext.events.log import EventLog
from upnext.fitting.drawn import Finder, draw
from upnext.models.candidates import CandidatesConfig
from upnext.pipeline.subjects import model_scores
from upnext.pipeline.told import Told


def learnt(log: EventLog, moment: int, items: ItemTable) -> dict[tuple[int, ...], list[float]]:
    """Every candidate of a choice before a moment, with all that is told of it."""
    finder = Finder(lambda cases: model_scores(MODELS["all"], log, cases, NUM_ITEMS, {}), "all", NUM_ITEMS)
    rows = np.flatnonzero(log.rows.time_ms[log.request_start] < moment)
    try:
        drawn = draw(CandidatesConfig(retriever="argus", top=5, negatives=2, uniform=2), finder, log, rows, "all")
    except BadConfig:
        return {}
    told = Told.of_cases(log, drawn.cases, drawn.items, items, USERS, scorers_for(log, items)).to("ranker", AGGREGATES)
    order = log.rows.order[drawn.cases.first_target]
    found = {}
    for place, item in enumerate(drawn.items.ravel().tolist()):
        numbers = [of.values[place].ravel() * of.observed[place] for of in told.values()]
        found[int(order[place // drawn.items.shape[1]]), place % drawn.items.shape[1], item] = np.concatenate(numbers)
    return {key: [round(float(one), 4) for one in told_of] for key, told_of in found.items()}


@settings(max_examples=60, deadline=None)
@given(EVENTS.filter(lambda events: len(events) > 2), st.integers(-1, 4), st.integers(0, 10**6))
def test_shuffling_everything_from_a_moment_on_changes_no_candidate_and_no_feature(events, moment, seed):
    early = [one for one in events if one.time < moment]
    late = [one._replace(request=-1) for one in events if one.time >= moment]
    order = np.random.default_rng(seed).permutation(len(late))
    shuffled = [one._replace(user=late[at].user, item=late[at].item) for one, at in zip(late, order, strict=True)]
    shuffled.append(Event(4, 5, 9, -1, 1.0))
    items = ItemTable(CATALOGUE.item, CATALOGUE.item_hash, ITEMS)
    before, after = (learnt(log_of([*early, *some], HAS), moment, items) for some in (late, shuffled))
    assert before.keys() == after.keys()
    for key, numbers in before.items():
        np.testing.assert_allclose(numbers, after[key], atol=2e-4, err_msg=str(key))

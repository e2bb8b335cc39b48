import numpy as np
import pytest

from tests.preparation.logs import DAY, config_of, prepared, write_events
from upnext.base.errors import BadConfig
from upnext.events.log import EventLog
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.preparation.candidate_features import candidate_features
from upnext.preparation.example_sets import LogExamples, examples_of

# user, item, seconds, request, position, surface, age, played, like; the last two days are validation and test
EVENTS = [
    ("u", "a", 0, "r1", 1, "home", 30, 1.0, 1),
    ("u", "b", 0, "r1", 2, "home", 30, 0.0, 0),
    ("u", "c", 50, "r2", 1, "home", 30, 0.5, None),
    ("v", "a", 60, "r3", 1, "kids", 8, 1.0, 0),
    ("v", "b", 60, "r3", 2, "kids", 8, 1.0, 1),
    ("v", "c", 60, "r3", 3, "kids", 8, 1.0, 1),
    ("u", "a", 4 * DAY, "r4", 1, "home", 30, 1.0, 0),
    ("u", "b", 5 * DAY, "r5", 1, "home", 30, 1.0, 1),
]
LIKES = {"by": ["item"], "what": "mean", "feedback": "like"}


@pytest.fixture
def made(tmp_path):
    write_events(tmp_path, "a.csv", EVENTS)
    artifact = prepared(config_of(tmp_path), tmp_path / "work")
    log, part = EventLog.open(artifact.folder / "log"), np.load(artifact.folder / "split.npy")
    tables = Catalogue.load(artifact.folder).items.features, People.load(artifact.folder).features.columns

    def make(**settings):
        return examples_of(LogExamples.model_validate(settings), log, part, *tables), log, tables

    return make


def test_a_request_is_a_set_and_what_was_not_observed_is_no_example(made):
    sets, log, tables = made(label="like", aggregates=[LIKES, {"by": ["user"]}])
    assert sorted(sets.sizes.tolist()) == [1, 1, 2, 3]  # r2 has no like
    assert sets.part[np.argsort(sets.time_ms)].tolist() == [0, 0, 1, 2]
    features = candidate_features(
        LogExamples.model_validate({"label": "like", "aggregates": [LIKES, {"by": ["user"]}]}).aggregates,
        log,
        sets.row,
        *tables,
    )
    assert features.keys() == sets.features.keys()
    for name, column in features.items():
        np.testing.assert_array_equal(sets.features[name].values, column.values)
    # An item's likes are not the request's; who asks, where, and how often, are.
    assert {"context.surface", "context.age", "user.count"} <= set(sets.of_request)
    assert "item.like.mean" not in sets.of_request
    assert sets.target == "like"
    assert sets.is_positive.sum() == 4


def test_a_window_joins_requests_and_is_asked_about_as_it_begins(made):
    sets, log, _ = made(label="like", window="1d", aggregates=[{"by": ["user"]}])
    day = log.rows.time_ms[sets.row] // (DAY * 1000)
    assert (sets.time_ms[sets.set] == day * DAY * 1000).all()
    # Of the first day nothing was known when it began.
    first = day == day.min()
    assert (sets.features["user.count"].values[first] == 0).all()


def test_a_long_set_is_cut_and_a_utility_is_graded(made):
    sets, _, _ = made(utility={"played": 2.0, "like": 1.0}, relevant=2.5, most_candidates=2)
    assert sets.sizes.max() == 2
    assert sets.label.max() == 3
    assert (sets.is_positive == (sets.label >= 2.5)).all()
    assert sets.target == "utility"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"label": "played"}, r"label is 'played'; the log has the binary feedback \['like'\]"),
        ({"label": "like", "ignore": ["x"]}, "ignore names 'x'"),
        ({"utility": {"x": 1.0}, "relevant": 1}, "a utility weight for the feedback 'x'"),
    ],
)
def test_what_the_log_has_not_is_refused(made, settings, said):
    with pytest.raises(BadConfig, match=said):
        made(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({}, "give 'label'"), ({"utility": {"like": 1.0}}, "'utility' and 'relevant' go together")],
)
def test_there_is_one_label(settings, said):
    with pytest.raises(ValueError, match=said):
        LogExamples.model_validate(settings)

"""The schema: what views may read, and what a log's columns are called."""

import numpy as np
import pytest
from pydantic import ValidationError

from upnext.base.batches import FlatColumn
from upnext.base.configuration import parse_config
from upnext.base.errors import BadConfig
from upnext.base.schema import Schema, context_column, feedback_column

DATA = {
    "has_times": True,
    "has_requests": False,
    "request_safe": True,
    "contexts": {"device": "categorical", "hour": "numeric"},
    "feedback": {"played": "fraction", "like": "binary"},
    "views": {"watched": "played >= 0.5", "loved_late": "like == 1 and hour >= 20"},
}


def schema(**changes: object) -> Schema:
    return parse_config(Schema, DATA | changes, "a log")


def column(*values: float | None) -> FlatColumn:
    return FlatColumn(
        np.array([0 if v is None else v for v in values], np.float32), np.array([v is not None for v in values])
    )


COLUMNS = {
    context_column("device"): FlatColumn(np.array([2, 3, 2, 0]), np.array([True, True, True, False])),
    context_column("hour"): column(21, 21, None, 3),
    feedback_column("played"): column(0.5, 0.4, None, 1),
    feedback_column("like"): column(1, 0, 1, 1),
}


def test_column_names_cannot_collide() -> None:
    assert context_column("x") == "context.x"
    assert feedback_column("x") == "feedback.x"


def test_views_are_evaluated_over_full_names() -> None:
    views = schema().select_views(COLUMNS)
    assert {name: view.tolist() for name, view in views.items()} == {
        "watched": [True, False, False, True],
        "loved_late": [True, False, False, False],
    }
    assert all(view.dtype == np.bool_ for view in views.values())


def test_select_reads_a_condition_that_is_no_view() -> None:
    assert schema().select("played < 0.5 or hour == 3", COLUMNS).tolist() == [False, True, False, True]


@pytest.mark.parametrize("name", ["device", "skipped", "item"])
def test_views_read_known_numeric_columns_only(name: str) -> None:
    """A categorical context is a code: comparing it with a number would mean nothing."""
    with pytest.raises(BadConfig) as caught:
        schema(views={"mine": f"{name} == 1"})
    assert f"the view 'mine' reads {name!r}" in str(caught.value)
    assert "['hour', 'like', 'played']" in str(caught.value)
    with pytest.raises(BadConfig, match=rf"reads {name!r}; the log has \['hour', 'like', 'played'\]"):
        schema().select(f"{name} == 1", COLUMNS)


def test_a_view_that_cannot_be_read_is_shown() -> None:
    with pytest.raises(BadConfig, match="the condition 'played > ' cannot be read at 'played >'"):
        schema(views={"mine": "played > "})


def test_the_name_all_is_taken() -> None:
    with pytest.raises(BadConfig, match="the view 'all' always exists"):
        schema(views={"all": "played >= 0.5"})


@pytest.mark.parametrize(
    ("field", "value"), [("contexts", {"device": "text"}), ("feedback", {"played": "percent"}), ("time", True)]
)
def test_unknown_kinds_and_keys_are_refused(field: str, value: object) -> None:
    with pytest.raises(BadConfig, match=field):
        schema(**{field: value})


def test_digest_follows_every_part() -> None:
    changes: list[dict[str, object]] = [
        {},
        {"has_times": False},
        {"has_requests": True},
        {"request_safe": False},
        {"contexts": {"device": "numeric", "hour": "numeric"}},
        {"feedback": {"played": "amount", "like": "binary"}},
        {"views": {"watched": "played >= 0.6"}},
        {"views": {}},
    ]
    assert len({schema(**change).digest() for change in changes}) == len(changes)
    assert schema().digest() == Schema.model_validate_json(schema().model_dump_json()).digest()


def test_a_schema_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        schema().has_times = False  # type: ignore[misc]

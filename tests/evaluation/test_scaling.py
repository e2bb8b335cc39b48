"""Lines and common targets of a scaling run, by hand."""

import math

import numpy as np
import pytest

from tests.events.logs import Event, log_of
from upnext.evaluation.cases import find_cases
from upnext.evaluation.scaling import fit_line, held_out, loss_rows
from upnext.events.split import TEST, TRAIN


def test_a_line_by_hand() -> None:
    for x, y, expected in (
        ([0, 1, 2], [3, 1, 2], (2.5, -0.5, 0.25, math.sqrt(0.5), 3)),
        ([1, 3], [4, 0], (6, -2, 1, 0, 2)),
        ([1, 2], [5, 5], (5, 0, 1, 0, 2)),
    ):
        fit = fit_line(x, y)
        assert fit is not None
        assert tuple(vars(fit).values()) == pytest.approx(expected, abs=1e-12)
    assert fit_line([2, 2], [1, 3]) is None
    assert fit_line([], []) is None


LOG = log_of([Event(user=2 + user % 3, item=2 + user % 4, time=user) for user in range(24)])


def test_only_targets_that_every_point_has_a_loss_of_count() -> None:
    cases = find_cases(LOG, np.full(24, TEST, np.int8), TEST, "all").take(np.arange(4))
    losses = [np.array([1.0, 2.0, np.nan, 3.0]), np.array([2.0, np.inf, np.nan, 4.0])]
    rows = loss_rows(losses, cases, 20)
    assert [(row["value"], row["targets"]) for row in rows] == [(2.0, 2), (3.0, 2)]


def test_held_out_cases_are_drawn_once_and_their_events_are_whole_requests() -> None:
    part = np.where(np.arange(24) % 8 < 4, TRAIN, TEST).astype(np.int8)
    held = held_out(LOG, part, TEST, "all", 5, 9)
    again = held_out(LOG, part, TEST, "all", 5, 9)
    assert len(held.cases) == 5
    assert (held.cases.first_target == again.cases.first_target).all()
    assert (part[held.rows] == TEST).all()
    assert len(held.rows) == 5
    in_view, events = LOG.in_view("all")
    assert held.trained.tolist() == np.bincount(events.item[part[in_view] == TRAIN], minlength=9).tolist()
    assert len(held_out(LOG, part, TEST, "all", 99, 9).cases) == 12

"""Rolled out events: each is what the service would answer and foresee, were the ones before it posted."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.end_to_end.test_tiny_project import succeed, upnext
from tests.reference.pages import slow_expectations
from tests.serving.asking import NOW
from tests.serving.projects import Published
from upnext.base.errors import BadRequest
from upnext.serving.generate import Imagined, Rollout, generate, median_gap_ms
from upnext.serving.histories import LiveEvent
from upnext.serving.recommend import Query, recommend
from upnext.serving.release import Release
from upnext.serving.service import Service

STEP_MS = 1_800_000
NIGHT: dict[str, str | float] = {"hour": "21"}


@pytest.fixture
def service(start: Callable[[Published], Service], hours: Published) -> Service:
    return start(hours)


def by_retriever(release: Release) -> Release:
    """The release whose rows are in the order of the next item, not of utility."""
    settings = release.settings.model_copy(update={"ranker": None, "utility": {}, "surfaces": {}})
    return replace(release, settings=settings, ranker=None)


def roll(service: Service, user: str, **given: Any) -> list[Imagined]:
    return generate(service.release, service.histories, Rollout(user, NOW, **({"step_ms": STEP_MS} | given)))


@pytest.mark.parametrize("user", ["u11", "u12", "a stranger"])
def test_it_equals_posting_and_asking_step_by_step(service: Service, user: str) -> None:
    imagined = roll(service, user, k=6, context=NIGHT)
    met: list[int] = []
    for number, event in enumerate(imagined):
        query = Query(user, NOW + number * STEP_MS, 40, NIGHT)
        (page,) = recommend(by_retriever(service.release), service.histories, [query])
        items, scores = page.rows[0].items, np.array(page.rows[0].scores)
        fresh = [place for place, item in enumerate(items) if item not in met]
        assert event.item == items[fresh[0]]
        odds = np.exp(scores[fresh])
        assert event.probability == pytest.approx(odds[0] / odds.sum(), abs=1e-5)
        assert event.time_ms == query.time_ms
        expected = slow_expectations(service.release, service.histories, query, event.item)
        assert event.expected == pytest.approx(expected, abs=1e-5)
        assert event.feedback == {name: float(value >= 0.5) for name, value in expected.items()}
        met.append(event.item)
        item_id = service.histories.assortment.describe(event.item)["item_id"]
        posted = LiveEvent(user, item_id, event.time_ms, f"e{number}", context=NIGHT, feedback=event.feedback)
        service.intake._write([[posted]])
    assert len(set(met)) == 6


def test_a_seed_decides_what_is_drawn(service: Service) -> None:
    first, same, other = (roll(service, "u13", k=8, temperature=1.0, seed=seed) for seed in (1, 1, 2))
    assert first == same
    assert [event.item for event in first] != [event.item for event in other]
    # As the temperature falls, what is drawn becomes the most probable.
    cold, greedy = roll(service, "u13", k=1, temperature=1e-3), roll(service, "u13", k=1)
    assert cold[0].item == greedy[0].item
    assert cold[0].probability == greedy[0].probability


def test_items_are_drawn_as_often_as_their_probability_says(service: Service) -> None:
    drawn = [roll(service, "u14", k=1, temperature=1.0, seed=seed)[0] for seed in range(300)]
    counts = {event.item: sum(one.item == event.item for one in drawn) for event in drawn}
    probability = {event.item: event.probability for event in drawn}
    likely = max(probability, key=lambda item: probability[item])
    p = probability[likely]
    assert abs(counts[likely] / 300 - p) < 4 * (p * (1 - p) / 300) ** 0.5
    liked = [one.feedback["like"] for one in drawn]
    expected = [one.expected["like"] for one in drawn]
    assert abs(np.mean(liked) - np.mean(expected)) < 4 * 0.5 / 300**0.5
    assert set(liked) <= {0.0, 1.0}


def test_repeats_only_where_allowed(service: Service) -> None:
    everything = roll(service, "a stranger", k=100)
    assert len(everything) == len({event.item for event in everything}) == 40  # then nothing is left
    again = roll(service, "a stranger", k=60, repeats=True)
    assert len(again) == 60
    # What the user chose before stays hidden, as on the page.
    ((events, _),) = service.histories.read(["u15"])
    liked = set(events.item[events.views["liked"]].tolist())
    assert not liked & {event.item for event in roll(service, "u15", k=100)}


def test_the_step_is_the_users_median_gap(service: Service) -> None:
    ((events, _),) = service.histories.read(["u16"])
    gaps = np.diff(events.time_ms)
    assert median_gap_ms(events) == int(np.median(gaps)) == 3_600_000
    first, second = roll(service, "u16", k=2, step_ms=None)
    assert second.time_ms - first.time_ms == 3_600_000
    assert median_gap_ms(events.take(slice(0, 1))) == 3_600_000  # nothing is known: an hour


def test_the_training_temperature_divides_the_scores(service: Service) -> None:
    warm = replace(service.release, temperature=4.0)
    (cool,) = roll(service, "u17", k=1)
    (hot,) = generate(warm, service.histories, Rollout("u17", NOW, k=1, step_ms=STEP_MS))
    assert hot.item == cool.item
    assert hot.probability < cool.probability


def test_models_that_cannot_imagine_are_refused(
    start: Callable[[Published], Service], tiny: Published, strange: Published
) -> None:
    service = start(tiny)
    with pytest.raises(BadRequest, match="'sasrec' foresees no feedback"):
        roll(service, "u00001")
    service = start(strange)
    with pytest.raises(BadRequest, match="'popular', whose scores are no odds of the next item"):
        roll(service, "zoë")


def test_on_the_command_line(hours: Published, tmp_path: Path) -> None:
    workspace = hours.lend(tmp_path / "lent")
    given = ("generate", workspace, "-u", "u18", "-k", "3", "--context", "hour=08", "--step", "30m")
    said = json.loads(succeed(*given, "--json"))
    assert said["user_id"] == "u18"
    events = said["events"]
    assert len(events) == 3
    assert np.diff([event["time_ms"] for event in events]).tolist() == [1_800_000, 1_800_000]
    assert events[0].keys() >= {"item_id", "title", "probability", "expected", "feedback"}
    assert "what would come next" in succeed(*given, "--temperature", "1.5", "--seed", "3")
    far = succeed("generate", workspace, "-u", "u18", "-k", "90", "--repeats", "--step", "5200w")
    assert re.search(r"\d{5}-\d\d-\d\d \d\d:\d\d:\d\d", far)  # beyond the year 9999


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--step", "soon"), "'soon' is no duration"),
        (("--step", "0"), "step"),
        (("--temperature", "0"), "temperature"),
        (("--temperature", "nan"), "temperature"),
        (("--seed", "-1"), "seed"),
        (("--context", "mood=good"), "unknown name 'mood'"),
        (("-k", "0"), "-k"),
    ],
)
def test_bad_options_are_explained(hours: Published, options: tuple[str, ...], words: str) -> None:
    done = upnext("generate", hours.workspace, "-u", "u18", *options)
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())


def test_the_release_says_at_which_temperature_it_was_trained(hours: Published) -> None:
    release = Release.load(hours.release)
    assert release.temperature == 1.0
    release.histories.close()

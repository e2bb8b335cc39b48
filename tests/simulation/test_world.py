"""The simulated log: its shape, its promises, and what was planted in it."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from upnext.base.configuration import parse_config
from upnext.base.errors import BadConfig
from upnext.simulation.catalogue import COLLECTIONS, GENRE_NAMES
from upnext.simulation.people import DEVICES, SURFACES
from upnext.simulation.settings import HOUR_MS, SimulationConfig
from upnext.simulation.world import Simulation, simulate

EVENT_COLUMNS = {
    "user_id": pl.String,
    "item_id": pl.String,
    "time_ms": pl.Int64,
    "request_id": pl.String,
    "position": pl.Int64,
    "surface": pl.String,
    "device": pl.String,
    "hour": pl.Int64,
    "click": pl.Int8,
    "played": pl.Float32,
    "like": pl.Int8,
    "dislike": pl.Int8,
}


def test_columns_of_the_log(service: Simulation) -> None:
    events, config = service.events, service.config
    assert dict(events.schema) == EVENT_COLUMNS
    assert abs(len(events) - config.num_events) <= config.list_length
    assert events["time_ms"].is_sorted()
    assert events["time_ms"].is_between(config.start_ms, config.end_ms - 1).all()
    assert events["hour"].to_list() == ((events["time_ms"] // HOUR_MS) % 24).to_list()
    assert set(events["surface"]) == set(SURFACES)
    assert set(events["device"]) == set(DEVICES)
    nullable = {"request_id", "position"}
    assert all(events[name].null_count() == 0 for name in events.columns if name not in nullable)


def test_side_tables(service: Simulation) -> None:
    items, users = service.items, service.users
    assert items["item_id"].to_list()[:2] == ["t000000", "t000001"]
    assert users["user_id"].to_list()[:2] == ["u00000", "u00001"]
    assert items["item_id"].n_unique() == items["title"].n_unique() == len(items) == 300
    assert not items["title"].str.contains(r"\s\s|\n").any()
    assert users["user_id"].n_unique() == len(users) == 250
    assert items["genres"].list.len().is_between(1, 3).all()
    assert set(items["genres"].explode()) <= set(GENRE_NAMES)
    assert set(items["collection"]) <= set(COLLECTIONS)
    assert items["title"].str.contains(r" 2$").any()  # a sequel
    assert set(service.events["item_id"]) <= set(items["item_id"])
    assert set(service.events["user_id"]) <= set(users["user_id"])


def test_feedback_is_consistent(service: Simulation) -> None:
    events = service.events
    assert events["played"].is_between(0, 1).all()
    assert (events.filter(pl.col("click") == 0)["played"] == 0).all()
    assert (events.filter(pl.col("like") == 1)["played"] >= 0.5).all()
    disliked = events.filter(pl.col("dislike") == 1)
    assert (disliked["click"] == 1).all()
    assert (disliked["played"] < 0.5).all()
    organic = events.filter(pl.col("surface") == "search")
    assert (organic["click"] == 1).all()
    assert organic["request_id"].null_count() == organic["position"].null_count() == len(organic)
    assert len(organic) / len(events) == pytest.approx(service.config.organic_share, abs=0.01)


def test_a_request_is_one_list_at_one_time(service: Simulation) -> None:
    L = service.config.list_length
    lists = service.events.filter(pl.col("request_id").is_not_null()).group_by("request_id")
    checked = lists.agg(
        pl.len(),
        pl.col("item_id", "position", "time_ms", "user_id", "surface", "device").n_unique().name.suffix("s"),
        pl.col("position").max().alias("last"),
    )
    assert (checked["len"] == L).all()
    assert (checked["item_ids"] == L).all()
    assert (checked["positions"] == L).all()
    assert (checked["last"] == L - 1).all()
    for name in ("time_mss", "user_ids", "surfaces", "devices"):
        assert (checked[name] == 1).all()


def test_two_requests_of_a_user_never_share_a_millisecond(service: Simulation) -> None:
    per_moment = service.events.group_by("user_id", "time_ms").agg(
        pl.len(), pl.col("request_id").n_unique().alias("requests"), pl.col("request_id").null_count().alias("organic")
    )
    assert (per_moment["requests"] == 1).all()
    assert (per_moment.filter(pl.col("organic") > 0)["len"] == 1).all()


def test_nobody_meets_what_is_not_yet_there(service: Simulation) -> None:
    met = service.events.join(service.items, on="item_id").join(service.users, on="user_id")
    assert (met["time_ms"] >= met["release_ms"]).all()
    assert (met["time_ms"] >= met["join_ms"]).all()
    released = (service.items["release_ms"] > service.config.start_ms).mean()
    assert released == pytest.approx(service.config.new_item_share, abs=0.05)
    assert (service.users["join_ms"] > service.config.start_ms).any()


def test_click_rate_falls_with_position(service: Simulation) -> None:
    by_position = service.events.drop_nulls("position").group_by("position").agg(pl.col("click").mean())
    rate = by_position.sort("position")["click"].to_list()
    assert rate[0] > 1.5 * rate[3] > 1.5 * rate[9] > 0


def test_the_next_part_follows_and_parts_come_in_order(service: Simulation) -> None:
    watches, world = service.watches, service.world
    same = watches.user[1:] == watches.user[:-1]
    before, after = watches.item[:-1][same], watches.item[1:][same]
    has_next = world.next_part[before] < world.num_items
    forward = (after == world.next_part[before])[has_next].mean()
    backward = (world.next_part[after] == before).mean()
    assert forward > 0.05
    assert forward > 5 * backward


def test_the_same_configuration_gives_the_same_log() -> None:
    config = SimulationConfig(num_users=40, num_items=80, num_events=2000, days=3)
    first, second = simulate(config), simulate(config)
    assert first.events.equals(second.events)
    assert first.items.equals(second.items)
    assert first.users.equals(second.users)
    other = simulate(config.model_copy(update={"seed": 1}))
    assert not first.events.equals(other.events)


@pytest.mark.parametrize(
    "change",
    [
        {"num_users": 1},
        {"organic_share": 0.0},
        {"organic_share": 1.0},
        {"list_length": 1},
        {"days": 2},
        {"new_item_share": 0.0, "new_user_share": 0.0},
        {"taste_strength": 0.0, "series_strength": 0.0, "long_range_strength": 0.0, "drift": 0.0},
    ],
    ids=str,
)
def test_odd_services_run(change: dict[str, Any]) -> None:
    config = SimulationConfig(**{"num_users": 30, "num_items": 60, "num_events": 600, "days": 4, **change})
    made = simulate(config)
    assert abs(len(made.events) - 600) <= config.list_length
    assert dict(made.events.schema) == EVENT_COLUMNS
    assert made.events["time_ms"].is_between(config.start_ms, config.end_ms - 1).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"num_users": 0}, r"num_users: .*greater than or equal to 1 \(found 0\)"),
        ({"organic_share": 1.5}, r"organic_share: .*less than or equal to 1 \(found 1.5\)"),
        ({"start": "monday"}, r"start: write an ISO 8601 time in UTC.*found 'monday'"),
        ({"start": "2025-01-06T00:00:00"}, 'start: end it with "Z"'),
        ({"start": "2025-01-06T10:00:00Z"}, "start: start at midnight"),
        ({"num_items": 60, "list_length": 20}, "lists of 20 need at least 100 titles; num_items is 60"),
        ({"num_events": 5}, "num_events is 5; allow at least two lists"),
        ({"users": 5}, "unknown key 'users'; allowed here: .*num_users"),
    ],
)
def test_a_wrong_configuration_is_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        parse_config(SimulationConfig, data, "[simulate]")


def test_genres_are_not_constant_over_the_day(service: Simulation) -> None:
    """People come for one taste in the morning, for another at night: the log shows it."""
    watched = service.events.filter((pl.col("played") >= 0.5) & (pl.col("surface") == "search"))
    watched = watched.join(service.items.with_columns(genre=pl.col("genres").list.first()), on="item_id")
    watched = watched.with_columns(part=pl.col("hour") // 8).sort("user_id", "time_ms")
    pairs = watched.with_columns(pl.col("genre", "part").shift(1).over("user_id").name.suffix("_before")).drop_nulls(
        "genre_before"
    )
    alike = (pairs["genre"] == pairs["genre_before"]).to_numpy()
    same_part = (pairs["part"] == pairs["part_before"]).to_numpy()
    assert np.mean(alike[same_part]) > 1.3 * np.mean(alike[~same_part])

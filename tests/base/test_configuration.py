"""Configuration: what is refused, in which words, and how --set changes it."""

import math
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from upnext.base.configuration import Config, Duration, apply_override, digest, parse_config, read_toml, with_lists
from upnext.base.errors import BadConfig, UserError


class Fast(Config):
    kind: Literal["fast"]
    speed: int = 1


class Slow(Config):
    kind: Literal["slow", "slower"]
    patience: int = 1


class Model(Config):
    width: Annotated[int, Field(ge=1)] = 8
    engine: Annotated[Fast | Slow, Field(discriminator="kind")] = Fast(kind="fast")


class Project(Config):
    name: str
    keep: Duration = 1000
    model: Model = Model()
    maybe: Model | None = None
    models: dict[str, Model] = {}
    engines: list[Annotated[Fast | Slow, Field(discriminator="kind")]] = []


def refused(data: dict[str, object]) -> str:
    with pytest.raises(BadConfig) as caught:
        parse_config(Project, data, "some.toml")
    assert str(caught.value).startswith("some.toml: ")
    return str(caught.value)


def test_a_configuration_is_read_and_frozen() -> None:
    config = parse_config(Project, {"name": "a", "model": {"width": 3}}, "some.toml")
    assert (config.name, config.model.width) == ("a", 3)
    with pytest.raises(ValueError, match="frozen"):
        config.name = "b"  # type: ignore[misc]


MODEL_KEYS = "allowed here: engine, width"
FAST_KEYS = "allowed here: kind, speed"
SLOW_KEYS = "allowed here: kind, patience"


@pytest.mark.parametrize(
    ("data", "key", "allowed"),
    [
        ({"nmae": 1}, "'nmae'", "allowed here: engines, keep, maybe, model, models, name"),
        ({"model": {"wdith": 1}}, "'model.wdith'", MODEL_KEYS),
        ({"maybe": {"wdith": 1}}, "'maybe.wdith'", MODEL_KEYS),
        ({"models": {"a": {"wdith": 1}}}, "'models.a.wdith'", MODEL_KEYS),
        ({"models": {"width": {"wdith": 1}}}, "'models.width.wdith'", MODEL_KEYS),
        ({"model": {"engine": {"kind": "fast", "patience": 2}}}, "patience'", FAST_KEYS),
        ({"models": {"a": {"engine": {"kind": "slower", "speed": 2}}}}, "speed'", SLOW_KEYS),
        ({"engines": [{"kind": "fast"}, {"kind": "slow", "speed": 2}]}, "speed'", SLOW_KEYS),
    ],
)
def test_an_unknown_key_is_named_with_those_allowed(data: dict[str, object], key: str, allowed: str) -> None:
    message = refused({"name": "a"} | data)
    assert "unknown key '" in message
    assert key in message
    assert message.endswith(allowed)


def test_every_problem_is_told_at_once() -> None:
    message = refused({"model": {"width": 0}, "nmae": 1})
    assert "the key 'name' is missing" in message
    assert "model.width: Input should be greater than or equal to 1 (found 0)" in message
    assert "unknown key 'nmae'" in message


def test_an_unknown_kind_is_told_which_exist() -> None:
    message = refused({"name": "a", "model": {"engine": {"kind": "medium"}}})
    assert "'medium'" in message
    assert all(f"'{kind}'" in message for kind in ("fast", "slow", "slower"))


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("5ms", 5),
        ("2s", 2000),
        ("30m", 30 * 60 * 1000),
        ("24h", 24 * 60 * 60 * 1000),
        ("7d", 7 * 24 * 60 * 60 * 1000),
        ("0", 0),
        ("2w", 14 * 24 * 60 * 60 * 1000),
        ("1.5h", 90 * 60 * 1000),
        (" 3 d ", 3 * 24 * 60 * 60 * 1000),
        ("0s", 0),
        (250, 250),
    ],
)
def test_durations(text: str | int, milliseconds: int) -> None:
    keep = parse_config(Project, {"name": "a", "keep": text}, "x").keep
    assert keep == milliseconds
    assert isinstance(keep, int)


@pytest.mark.parametrize("text", ["7", "d", "7 days", "-7d", "1h30m", "7D", "", "1e3s"])
def test_no_duration(text: str) -> None:
    message = refused({"name": "a", "keep": text})
    assert f"keep: {text!r} is no duration" in message
    assert '"7d"' in message


def test_a_fraction_of_a_millisecond_is_no_duration() -> None:
    assert "keep: " in refused({"name": "a", "keep": 1.5})


def write(folder: Path, text: str) -> Path:
    path = folder / "project.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_overrides_replace_and_add(tmp_path: Path) -> None:
    path = write(tmp_path, 'name = "a"\n[model]\nwidth = 3\n')
    overrides = ["model.width=5", 'name="b"', "keep = 7d", "models.new.width=2", "maybe={width = 4}", "model.width=6"]
    assert read_toml(path, overrides) == {
        "name": "b",
        "keep": "7d",
        "model": {"width": 6},
        "models": {"new": {"width": 2}},
        "maybe": {"width": 4},
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-2.5", -2.5),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ('"1"', "1"),
        ("a b", "a b"),
        ("", ""),
        ("x=y", "x=y"),
        ("played >= 0.5", "played >= 0.5"),
    ],
)
def test_override_values_are_toml_or_else_text(text: str, value: object) -> None:
    data: dict[str, object] = {}
    apply_override(data, f"key={text}")
    assert data == {"key": value}
    assert type(data["key"]) is type(value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.width", "write key=value"),
        ("=5", "write key=value"),
        (" =5", "write key=value"),
        ("name.first=5", "'name' is a value, not a table; it has no key 'first'"),
        ("model.width.deep.er=5", "'width' is a value, not a table"),
        ("list.0=5", "'list' is a value, not a table"),
    ],
)
def test_bad_overrides(override: str, words: str) -> None:
    data = {"name": "a", "model": {"width": 3}, "list": [1]}
    with pytest.raises(BadConfig) as caught:
        apply_override(data, override)
    assert f"--set {override}: " in str(caught.value)
    assert words in str(caught.value)


def test_an_override_with_an_unknown_key_is_refused_like_any_other(tmp_path: Path) -> None:
    data = read_toml(write(tmp_path, 'name = "a"'), ["model.depth=2"])
    assert "unknown key 'model.depth'" in refused(data)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"cannot read the configuration .*missing\.toml: No such file"):
        read_toml(tmp_path / "missing.toml")
    with pytest.raises(BadConfig, match="Is a directory"):
        read_toml(tmp_path)


def test_no_toml(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"project\.toml is not TOML: .*line 2"):
        read_toml(write(tmp_path, "name = 1\nname: 2\n"))
    path = tmp_path / "project.toml"
    path.write_bytes(b'name = "\xff"\n')
    with pytest.raises(BadConfig, match="is not TOML"):
        read_toml(path)


def test_errors_are_the_users_and_value_errors() -> None:
    assert issubclass(BadConfig, UserError)
    assert issubclass(BadConfig, ValueError)


def test_digest_depends_on_values_not_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})
    different = [{"a": 1}, {"a": 2}, {"b": 1}, {"a": "1"}, {"a": [1]}, {"a": {"b": 1}}, {"a": None}, {}, {"a": 1.5}]
    assert len({digest(value) for value in different}) == len(different)
    assert digest([1, 2]) != digest([2, 1])
    assert len(digest(math.pi)) == 16


def test_lists_are_put_in_where_they_are_named() -> None:
    lists = {"two": [1, 2], "none": []}
    data = {"a": {"parts": "two"}, "b": [{"parts": [0, "two"], "c": {"parts": "none"}}], "two": "two"}
    whole = {"a": {"parts": [1, 2]}, "b": [{"parts": [0, 1, 2], "c": {"parts": []}}], "two": "two"}
    assert with_lists(data, "parts", lists) == whole
    assert with_lists({"parts": 5, "two": "two"}, "parts", lists) == {"parts": 5, "two": "two"}  # for others to refuse
    with pytest.raises(BadConfig, match=r"parts names 'too'; the lists of \[parts\] are \['none', 'two'\]"):
        with_lists({"a": {"parts": ["too"]}}, "parts", lists)

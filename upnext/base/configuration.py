"""Configuration: frozen pydantic models that refuse unknown keys, read from one TOML file."""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from upnext.base.errors import BadConfig

__all__ = [
    "ByteSize",
    "Config",
    "Duration",
    "Weight",
    "apply_override",
    "digest",
    "parse_config",
    "read_toml",
    "with_lists",
]


class Config(BaseModel):
    """A frozen piece of configuration: unknown keys are refused, values are checked as they are read."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


AnyConfig = TypeVar("AnyConfig", bound=Config)

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_CENTURY_MS = 100 * 365 * _UNITS_MS["d"]


def _milliseconds(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f'{value} is no duration; write a number and a unit: "7d"')
    if not isinstance(value, str):
        return value  # already milliseconds; pydantic checks that it is an integer
    if value.strip() == "0":
        return 0
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|[smhdw])\s*", value)
    if match is None:
        raise ValueError(f'{value!r} is no duration; write a number and a unit of {", ".join(_UNITS_MS)}: "7d"')
    milliseconds = float(match[1]) * _UNITS_MS[match[2]]
    if milliseconds > _CENTURY_MS:
        raise ValueError(f"{value!r} is longer than a hundred years; write a shorter one")
    return round(milliseconds)


Duration = Annotated[int, BeforeValidator(_milliseconds)]
"""Milliseconds, at most a hundred years, written in TOML as "30m", "24h", "7d", "0"."""


Weight = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
"""What a unit of some feedback is worth."""


_UNITS_BYTES = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


def _bytes(value: Any) -> Any:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value  # already bytes
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(MB|GB|TB)\s*", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{value!r} is no amount of memory; write a number and a unit of MB, GB, TB: "4 GB"')
    return round(float(match[1]) * _UNITS_BYTES[match[2]])


ByteSize = Annotated[int, BeforeValidator(_bytes)]
"""Bytes, written in TOML as "500 MB", "4 GB"."""


def digest(value: Any) -> str:
    """Hash any JSON-like value to 16 hexadecimal digits; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def read_toml(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a TOML file and apply `key=value` overrides, such as `pretrain.sasrec.model.width=128`.

    Raises:   BadConfig: no such file, no TOML, or an override that is not `key=value`.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadConfig(
            f"cannot read the configuration {path}: {error.strerror}; give the path of a TOML file"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} is not TOML: {error}") from None
    for override in overrides:
        apply_override(data, override)
    return data


def with_lists(data: Any, key: str, lists: Mapping[str, Any]) -> Any:
    """Plain data in which every list under a key has named ones put in where it names them, wherever that key is.

    `aggregates = "counts"` and `aggregates = ["counts", { by = ["item"] }]` read what `lists` calls `counts`.

    Raises:   BadConfig: there is no list of that name.
    """
    if isinstance(data, list):
        return [with_lists(one, key, lists) for one in data]
    if not isinstance(data, dict):
        return data
    found = {name: with_lists(value, key, lists) for name, value in data.items()}
    if key in found:
        found[key] = _put_in(found[key], key, lists)
    return found


def _put_in(value: Any, key: str, lists: Mapping[str, Any]) -> Any:
    """A list, with those that it names in their places; whatever else is no list is left for others to refuse."""
    if not isinstance(value, str | list):
        return value
    whole: list[Any] = []
    for one in [value] if isinstance(value, str) else value:
        if not isinstance(one, str):
            whole.append(one)
        elif isinstance(lists.get(one), list):
            whole += lists[one]
        else:
            raise BadConfig(f"{key} names {one!r}; the lists of [{key}] are {sorted(lists)}")
    return whole


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set one `key=value`, such as `pretrain.sasrec.model.width=128`, in plain data.

    Raises:   BadConfig: it is not `key=value`, or its key leads through a value.
    """
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise BadConfig(f"--set {override}: write key=value, such as --set pretrain.sasrec.model.width=128")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # an unquoted string, as a shell leaves it
    *parents, last = key.strip().split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise BadConfig(f"--set {override}: {parent!r} is a value, not a table; it has no key {last!r}")
    data[last] = value


def parse_config(kind: type[AnyConfig], data: Any, where: str) -> AnyConfig:
    """Check plain data against a configuration model.

    Args:     where: what the data was read from; the error names it.
    Raises:   BadConfig: one line per problem: the key, the value, what is allowed.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        lines = [_problem(kind, data, problem) for problem in error.errors()]
        raise BadConfig(f"{where}: " + "; ".join(lines)) from None


def _problem(kind: type[Config], data: Any, problem: Any) -> str:
    key = _key(data, problem["loc"], problem["type"] == "missing") or "the file"
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}; {_allowed_keys(kind, problem['loc'])}"
    if problem["type"] == "missing":
        return f"the key {key!r} is missing; add it"
    message = problem["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(problem["input"], dict) else f" (found {problem['input']!r})"
    return f"{key}: {message}{shown}"


def _key(data: Any, location: Sequence[int | str], is_absent: bool) -> str:
    """The key as the file spells it: a location also holds the kinds of tables and values, no part of a key.

    Args:     is_absent: the key is missing from the data.
    """
    parts = []
    for number, part in enumerate(location, 1):
        is_there = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)
        if is_there or (number == len(location) and is_absent):
            parts.append(str(part))
        data = data[part] if is_there else data
    return ".".join(parts)


def _allowed_keys(kind: type[Config], location: Sequence[int | str]) -> str:
    annotation: Any = kind
    for part in location[:-1]:
        annotation = _inside(annotation, part)
    models = _models_in(annotation)
    if len(models) != 1:
        return "remove it or correct its spelling (docs/configuration.md lists the keys)"
    names = (field.alias or name for name, field in models[0].model_fields.items())
    return f"allowed here: {', '.join(sorted(names))}"


def _inside(annotation: Any, part: int | str) -> Any:
    """What a step of an error's location leads to: a value of a table or list, a field, or one kind of several."""
    if get_origin(annotation) in (dict, list):
        return get_args(annotation)[-1]
    models = _models_in(annotation)
    if len(models) == 1:
        field = models[0].model_fields.get(str(part))
        return None if field is None else field.annotation
    kinds = {tag: m for m in models if "kind" in m.model_fields for tag in get_args(m.model_fields["kind"].annotation)}
    return kinds.get(part)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]

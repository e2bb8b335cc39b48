"""Raw values of features, as a caller gives them row by row, checked and in their canonical form."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from upnext.base.errors import BadData
from upnext.base.schema import FeatureKind

__all__ = ["as_columns"]

_ALLOWED: dict[FeatureKind, str] = {
    "categorical": "text, an integer or a boolean",
    "multi": "a list of text, integers or booleans",
    "numeric": "a finite number",
    "text": "text",
    "vector": "a list of finite numbers",
}


def as_columns(rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, FeatureKind]) -> dict[str, list[Any]]:
    """Turn rows into a list of values per feature, None where it was not observed.

    Raises:   BadData: the row, the feature, the value, what is allowed.
    """
    return {name: [_read(row.get(name), kind, name, n) for n, row in enumerate(rows)] for name, kind in kinds.items()}


def _read(value: Any, kind: FeatureKind, name: str, row: int) -> Any:
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return None
    read: Any
    match kind:
        case "categorical":
            read = _category(value)
        case "multi":
            read = _categories(value)
        case "numeric":
            read = float(value) if _is_number(value) and math.isfinite(value) else None
        case "text":
            read = value if isinstance(value, str) else None
        case "vector":
            is_vector = isinstance(value, list | tuple | np.ndarray) and all(map(_fits, value))
            read = [float(part) for part in value] if is_vector else None
    if read is None:
        raise BadData(
            f"row {row}: the feature {name!r} is {value!r}; allowed: {_ALLOWED[kind]}; leave out what is unknown"
        )
    return None if read == [] else read


def _category(value: Any) -> str | None:
    """As the reader of tables writes it: whole numbers without ".0", booleans as true and false."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        number = float(value)
        return str(int(number)) if abs(number) <= 2.0**53 and number.is_integer() else None
    return str(value) if isinstance(value, int | str | np.integer) else None


def _categories(value: Any) -> list[str] | None:
    if not isinstance(value, list | tuple | np.ndarray):
        return None
    read = [part if isinstance(part, str) else _category(part) for part in value]
    if any(part is None or isinstance(given, float) for part, given in zip(read, value, strict=True)):
        return None
    return [part.strip() for part in read if part and part.strip()]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating | np.bool_)


def _fits(value: Any) -> bool:
    """Whether a number is finite as float32; NaN is below nothing."""
    return _is_number(value) and bool(abs(value) <= float(np.finfo(np.float32).max))

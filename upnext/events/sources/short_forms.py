"""Short forms of configuration: a list of names, or name = "kind", where a table of columns is meant."""

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["named_columns"]


def named_columns(value: Any, kind: str, columns: Mapping[str, str | None] | None = None) -> Any:
    """Write the short forms out; what is no short form is left to the checks that follow.

    Args:     value: as in the file: a list of names, or a table of name = "kind" or name = { column, kind }.
              kind: of the names of a list; columns: what a name reads by default, where that is not its own name.
    Returns:  a table of name = { column, kind, … }.
    Raises:   ValueError: a name that cannot be one.
    """
    if isinstance(value, list):
        value = dict.fromkeys(value, kind)
    if not isinstance(value, dict):
        return value
    for name in value:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise ValueError(
                f"{name!r} cannot be a name; use letters, digits and underscores, and give the column:"
                f' name = {{ column = "{name}", kind = "{kind}" }}'
            )
    by_default = {name: (columns or {}).get(name) or name for name in value}
    return {
        name: {"column": by_default[name], "kind": form}
        if isinstance(form, str)
        else {"column": by_default[name], **form}
        if isinstance(form, dict)
        else form
        for name, form in value.items()
    }

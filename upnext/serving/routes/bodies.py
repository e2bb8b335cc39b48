"""Bodies in the OpenAPI description: handlers read theirs by themselves, to say in a sentence what is wrong."""

from typing import Any

import msgspec
from litestar.openapi.spec import Operation

__all__ = ["taking"]


def taking(kind: type[msgspec.Struct]) -> type[Operation]:
    """What describes an operation whose body is JSON of a kind."""
    written = msgspec.json.schema(kind)
    schema = _inline(written, written["$defs"])

    class Taking(Operation):
        """An operation with a body."""

        def to_schema(self) -> dict[str, Any]:
            """Describe it, with the body."""
            body = {"required": True, "content": {"application/json": {"schema": schema}}}
            return super().to_schema() | {"requestBody": body}

    return Taking


def _inline(schema: Any, definitions: dict[str, Any]) -> Any:
    """A schema with what it refers to put in its place: references count from the root of the whole description."""
    if isinstance(schema, list):
        return [_inline(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inline(definitions[schema["$ref"].removeprefix("#/$defs/")], definitions)
    return {key: _inline(part, definitions) for key, part in schema.items()}

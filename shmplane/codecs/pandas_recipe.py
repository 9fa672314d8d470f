"""What Arrow's schema cannot say of a pandas table: a JSON value in its metadata. Takes no pandas to be read."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["pack_recipe", "parse_recipe", "recipe_of", "text_of"]

_KEY = b"shmplane"


def pack_recipe(recipe: dict[str, Any]) -> dict[bytes, bytes]:
    """The metadata of a schema."""
    return {_KEY: json.dumps(recipe, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")}


def recipe_of(schema: pa.Schema) -> dict[str, Any]:
    """The recipe in a schema's metadata; shared by all who ask, so nobody may change it."""
    return parse_recipe(text_of(schema))


def text_of(schema: pa.Schema) -> bytes:
    """The recipe as it is stored."""
    text: bytes = schema.metadata[_KEY]
    return text


@lru_cache(maxsize=64)
def parse_recipe(recipe: bytes) -> dict[str, Any]:
    """The recipe of a text; shared, as that of ``recipe_of``."""
    parsed: dict[str, Any] = json.loads(recipe.decode("utf-8", "surrogatepass"))
    return parsed

"""Where in a nested value something is: ``value["a"][3]``.

A path is a chain of keys from the leaf up, so that going down costs a tuple; it becomes text only when something is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

__all__ = ["HERE", "Path", "find", "text_of_path"]

_LONGEST_KEY = 60
_MOST_KEYS = 8

#: the path of what contains something, and under which key or index; None: the value itself
Path = tuple[Any, Any] | None
HERE: Path = None


def text_of_path(path: Path) -> str:
    """``value["a"][3]``; the middle of a very long one is left out."""
    keys: list[str] = []
    while path is not None:
        path, key = path
        keys.append(_text_of_key(key))
    keys.reverse()
    if len(keys) > 2 * _MOST_KEYS:
        keys[_MOST_KEYS:-_MOST_KEYS] = ["..."]
    return "value" + "".join(keys)


def _text_of_key(key: Any) -> str:
    text = json.dumps(str(key), ensure_ascii=False) if isinstance(key, str) else repr(key)
    text = text.encode("utf-8", "backslashreplace").decode()
    return f"[{text if len(text) <= _LONGEST_KEY else text[:_LONGEST_KEY] + '...'}]"


def find(value: Any, is_wrong: Callable[[Any], bool], is_wrong_key: Callable[[Any], bool] | None = None) -> str:
    """The path of the first leaf that is wrong, or of the dict that has a wrong key; ``value`` when there is none."""
    stack: list[tuple[Any, Path]] = [(value, HERE)]
    seen = set()
    while stack:
        item, path = stack.pop()
        if isinstance(item, dict):
            children: Any = item.items()
            if is_wrong_key is not None and any(map(is_wrong_key, item)):
                return text_of_path(path)
        elif isinstance(item, (list, tuple)):
            children = enumerate(item)
        elif is_wrong(item):
            return text_of_path(path)
        else:
            continue
        if id(item) not in seen:
            seen.add(id(item))
            stack.extend(reversed([(child, (path, key)) for key, child in children]))
    return text_of_path(HERE)

"""Read-only JSON values: a dict and a list that refuse every change, and copy and pickle as plain ones.

So one decoded value serves every reader of a version, and a change that would reach nobody is said at once. Whoever goes
around the refusals (``dict.update(value, ...)``) changes what the other readers of this process see.
"""

from __future__ import annotations

from typing import Any, NoReturn

__all__ = ["ReadOnlyDict", "ReadOnlyList", "freeze", "thaw"]


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise TypeError(
        "a JSON value from a plane is read-only, since all its readers share it. Publish a change with plane.edit(name); "
        'for a value of your own: copy.deepcopy(value) or plane.get(name, as_="python")'
    )


class ReadOnlyDict(dict[str, Any]):
    """A ``dict`` whose changes raise ``TypeError``; copies of it are plain, and so is what is unpickled."""

    __slots__ = ("__weakref__", "origin")
    origin: object  #: what has to live as long as this

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def copy(self) -> dict[str, Any]:
        """A plain ``dict`` of the same, still read-only values."""
        return dict(self)

    __copy__ = copy

    def __deepcopy__(self, memo: Any) -> Any:
        return thaw(self)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return dict, (thaw(self),)


class ReadOnlyList(list[Any]):
    """A ``list`` whose changes raise ``TypeError``; copies and slices of it are plain, and so is what is unpickled."""

    __slots__ = ("__weakref__", "origin")
    origin: object  #: what has to live as long as this

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def copy(self) -> list[Any]:
        """A plain ``list`` of the same, still read-only values."""
        return list(self)

    __copy__ = copy

    def __deepcopy__(self, memo: Any) -> Any:
        return thaw(self)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return list, (thaw(self),)


def freeze(value: Any) -> Any:
    """A decoded JSON value with read-only containers."""
    return _rebuilt(value, ReadOnlyDict, ReadOnlyList)


def thaw(value: Any) -> Any:
    """A private, plain copy of a JSON value."""
    return _rebuilt(value, dict, list)


def _rebuilt(value: Any, make_dict: type[dict[str, Any]], make_list: type[list[Any]]) -> Any:
    """``value`` with other containers, one after the other: how deep they are nested is no matter."""
    unfilled: list[tuple[Any, Any]] = []

    def begun(item: Any) -> Any:
        if not isinstance(item, (dict, list)):
            return item
        new = make_dict() if isinstance(item, dict) else make_list()
        unfilled.append((new, item))
        return new

    whole = begun(value)
    while unfilled:
        new, item = unfilled.pop()
        if isinstance(item, dict):
            dict.update(new, {key: begun(child) for key, child in item.items()})
        else:
            list.extend(new, map(begun, item))
    return whole

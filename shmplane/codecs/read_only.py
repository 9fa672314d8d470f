"""Read-only containers: a dict and a list that refuse every change, and copy and pickle as plain ones.

So one decoded JSON value serves every reader of a version, and a change that would reach nobody is said at once. Whoever goes
around the refusals (``dict.update(value, ...)``) changes what the other readers of this process see.

Trees have the same containers. Those of a draft (``FixedDict``, ``FixedList``) refuse what a draft of a tree cannot do.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

from ..errors import UnsupportedValue

__all__ = ["FixedDict", "FixedList", "ReadOnlyDict", "ReadOnlyList", "freeze"]


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise TypeError(
        "a value from a plane is read-only, since all its readers share it. Publish a change with plane.edit(name); "
        'for a value of your own: copy.deepcopy(value) or plane.get(name, as_="python")'
    )


class _Plain:
    """Deep copies are plain, and so is what is unpickled."""

    __slots__ = ()
    _plain: ClassVar[type]  #: what it is a read-only one of

    def __deepcopy__(self, memo: Any) -> Any:
        return thaw(self, lambda leaf: _copied(leaf, memo))

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self._plain, (thaw(self, _picklable),)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """What a notebook shows of a tree beside its text; of JSON nothing."""
        from .tree_display import mimebundle_of_tree

        return mimebundle_of_tree(self)


class ReadOnlyDict(_Plain, dict[str, Any]):
    """A ``dict`` whose changes raise ``TypeError``; copies of it are plain, and so is what is unpickled."""

    __slots__ = ("__weakref__", "origin")
    _plain = dict
    origin: object  #: what has to live as long as this

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def copy(self) -> dict[str, Any]:
        """A plain ``dict`` of the same, still read-only values."""
        return dict(self)

    __copy__ = copy


class ReadOnlyList(_Plain, list[Any]):
    """A ``list`` whose changes raise ``TypeError``; copies and slices of it are plain, and so is what is unpickled."""

    __slots__ = ("__weakref__", "origin")
    _plain = list
    origin: object  #: what has to live as long as this

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def copy(self) -> list[Any]:
        """A plain ``list`` of the same, still read-only values."""
        return list(self)

    __copy__ = copy


def _refuse_another_tree(*_: Any, **__: Any) -> NoReturn:
    raise UnsupportedValue(
        "the draft of a tree has the leaves that were put: change arrays in place (draft.tree[key][...] = values). To "
        "replace, add or remove a leaf, put the value anew: plane[name] = value"
    )


class FixedDict(ReadOnlyDict):
    """A ``dict`` of a draft, with the leaves that it has; ``draft.tree[key] += 1`` puts back the array that was changed."""

    __slots__ = ()

    __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse_another_tree

    def __setitem__(self, key: str, leaf: Any) -> None:  # type: ignore[override]
        if key not in self or self[key] is not leaf:
            _refuse_another_tree()


class FixedList(ReadOnlyList):
    """A ``list`` of a draft, with the leaves that it has; ``draft.tree[0] += 1`` puts back the array that was changed."""

    __slots__ = ()

    __delitem__ = __iadd__ = __imul__ = _refuse_another_tree
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse_another_tree

    def __setitem__(self, index: Any, leaf: Any) -> None:  # type: ignore[override]
        if isinstance(index, slice) or self[index] is not leaf:
            _refuse_another_tree()


def freeze(value: Any) -> Any:
    """A decoded JSON value with read-only containers, one after the other: how deep they are nested is no matter."""
    unfilled: list[tuple[Any, Any]] = []

    def begun(item: Any) -> Any:
        if not isinstance(item, (dict, list)):
            return item
        new = ReadOnlyDict() if isinstance(item, dict) else ReadOnlyList()
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


def thaw(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """A private copy with plain containers, and of each leaf what ``leaf`` makes of it."""
    holder: list[Any] = [None]
    unfilled: list[tuple[Any, Any, Any]] = [(holder, 0, value)]
    tuples: list[tuple[Any, Any, list[Any]]] = []
    while unfilled:
        parent, place, item = unfilled.pop()
        if isinstance(item, dict):
            new: Any = dict.fromkeys(item)
            children: Any = item.items()
        elif isinstance(item, (list, tuple)):
            new, children = [None] * len(item), enumerate(item)
            if isinstance(item, tuple):
                tuples.append((parent, place, new))
        else:
            new, children = leaf(item), ()
        parent[place] = new
        unfilled.extend((new, key, child) for key, child in children)
    # Those within others were begun later, and are whole first.
    for parent, place, items in reversed(tuples):
        parent[place] = tuple(items)
    return holder[0]


def _copied(leaf: Any, memo: Any) -> Any:
    return bytes(leaf) if isinstance(leaf, memoryview) else copy.deepcopy(leaf, memo)


def _picklable(leaf: Any) -> Any:
    """Python can neither pickle nor copy a ``memoryview``."""
    return bytes(leaf) if isinstance(leaf, memoryview) else leaf

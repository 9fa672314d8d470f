from collections import deque
from collections.abc import Callable
from typing import Any, Literal, Self, overload

COLUMNS: str
SOURCE: int

def export(kept: object, address: int, nbytes: int, /) -> Any: ...
def kept_by(thing: object, /) -> Any: ...
def can_tell_forks() -> bool: ...
def stop_at(store: int, /) -> int: ...

class LockWord:
    def __new__(cls, words: memoryview, at: int, mark: int, marks: int, tokens: int, /) -> Self: ...
    def take(self) -> int: ...
    def give(self) -> None: ...
    def try_lock(self) -> bool: ...
    def wait(self, waited: float, left: float, /) -> bool: ...
    def is_held_elsewhere(self) -> bool: ...

class Core:
    def __new__(
        cls,
        words: memoryview,
        layout: bytes,
        class_of: bytes,
        cells: bytes,
        leases_start: int,
        lease_row_words: int,
        slot: int,
        count_row: int,
        most_tombstones: int,
        fd: int,
        word: object,
        mutex: object,
        garbage: deque[Any],
        owed: deque[Any],
        gone: deque[Any],
        leased: dict[int, Any],
        creating: dict[int, Any],
        /,
    ) -> Self: ...
    @overload
    def put(self, name: bytes, body: Any, frame: bytes, kind: int, /) -> bool | None: ...
    @overload
    def put(
        self, name: bytes, body: Any, frame: bytes, kind: int, tracked: Any, /
    ) -> bytes | Literal[False] | None: ...
    def sees(self, name: object, /) -> Literal[True] | None: ...
    def assign(self, name: object, value: object, /) -> bool | None: ...
    def learn(self, value: object, frame: bytes, kind: int, /) -> None: ...
    def delete(self, name: bytes, /) -> bool | None: ...
    def lease(
        self, name_row: int, word: int, row: int, moves: int, segment_id: int, tracked: Any, /
    ) -> bool | None: ...
    def permits(
        self,
        numbers: memoryview,
        ready: list[Any],
        waiters: deque[Any],
        kind: type[Any],
        opens: set[Any],
        release: Any,
        release_later: Any,
        done: Any,
        /,
    ) -> tuple[Callable[[Any], int | None], Callable[..., None], Callable[..., Any]]: ...
    def reserve(self, name: bytes, nbytes: int, tracked: Any, /) -> bytes | Literal[False] | None: ...
    def put_large(
        self, name: bytes, body: Any, frame: bytes, kind: int, creation: Any, tracked: Any = ..., /
    ) -> bytes | bool | None: ...
    @overload
    def publish(
        self,
        name: bytes,
        row: int,
        kind: int,
        body_nbytes: int,
        nbytes: int,
        frame_nbytes: int,
        frame_crc: int,
        creation: Any,
        /,
    ) -> bool | None: ...
    @overload
    def publish(
        self,
        name: bytes,
        row: int,
        kind: int,
        body_nbytes: int,
        nbytes: int,
        frame_nbytes: int,
        frame_crc: int,
        creation: Any,
        tracked: Any,
        /,
    ) -> bytes | Literal[False] | None: ...
    def within(self, act: str, /, *args: Any) -> Any: ...
    def know(self, segment_row: int, segment_id: int, address: int, nbytes: int, mapping: object, /) -> None: ...
    def forget(self) -> None: ...
    def retire(self) -> None: ...

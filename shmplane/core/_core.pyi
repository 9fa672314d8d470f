from collections import deque
from typing import Any, Self, overload

COLUMNS: str
SOURCE: int

def stop_at(store: int, /) -> int: ...

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
        mutex: object,
        garbage: deque[Any],
        owed: deque[Any],
        gone: deque[Any],
        leased: dict[int, Any],
        /,
    ) -> Self: ...
    @overload
    def put(self, name: bytes, body: Any, frame: bytes, kind: int, /) -> bool | None: ...
    @overload
    def put(self, name: bytes, body: Any, frame: bytes, kind: int, tracked: Any, /) -> bytes | None: ...
    def delete(self, name: bytes, /) -> bool | None: ...
    def lease(
        self, name_row: int, word: int, row: int, moves: int, segment_id: int, tracked: Any, /
    ) -> bool | None: ...
    def know(self, segment_row: int, segment_id: int, address: int, nbytes: int, mapping: object, /) -> None: ...
    def forget(self) -> None: ...
    def retire(self) -> None: ...

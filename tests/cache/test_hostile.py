"""Rows and files that somebody else wrote: refused, counted as missing, removed, and never run."""

from __future__ import annotations

import errno
import os
import pickle
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shmplane import Cache, PlaneCorrupt, PlaneSecurityError, ShmplaneError
from shmplane.cache.keys import encode_key
from shmplane.cache.records import IN_FILE, Record, pack_record, unpack_record
from tests.cache.test_cache import forget_memory


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["BOMB"],)


@pytest.fixture
def bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BOMB", str(tmp_path / "it ran"))
    return tmp_path / "it ran"


def open_cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", memory="8MiB", disk="32MiB")


def write_row(tmp_path: Path, item: Any, **columns: Any) -> None:
    """What somebody with a database client does."""
    with sqlite3.connect(tmp_path / "cache" / "cache.db") as connection:
        changes = ", ".join(f"{name} = ?" for name in columns)
        connection.execute(f"UPDATE Cache SET {changes} WHERE key = ?", (*columns.values(), encode_key(item)))
    connection.close()


def row_value(tmp_path: Path, key: Any) -> bytes:
    with sqlite3.connect(tmp_path / "cache" / "cache.db") as connection:
        ((value,),) = connection.execute("SELECT value FROM Cache WHERE key = ?", (encode_key(key),)).fetchall()
    connection.close()
    return bytes(value)


def value_file(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "cache").glob("v*/*.val")
    return found


@pytest.mark.parametrize("mode", range(6))
def test_a_planted_pickle_is_never_run(tmp_path: Path, bomb: Path, mode: int) -> None:
    with open_cache(tmp_path) as cache:
        cache["x"] = 1
        forget_memory(cache)
        write_row(tmp_path, "x", value=pickle.dumps(Bomb()), mode=mode)
        assert cache.get("x") is None
        assert "x" not in cache
        assert cache.stats().damaged == 1
        assert list(cache) == []
    assert not bomb.exists()


def test_a_planted_pickle_as_a_key_is_never_run(tmp_path: Path, bomb: Path) -> None:
    with open_cache(tmp_path) as cache:
        cache["x"] = 1
        cache["y"] = 2
        write_row(tmp_path, "x", key=pickle.dumps(Bomb()), raw=0)
        assert list(cache) == ["y"]
        cache.clear()
    assert not bomb.exists()


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "v00/../../x.val", "cache.db", "v00"])
def test_a_row_that_names_another_file_is_refused_and_the_file_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"x" * 100_000)
    with open_cache(tmp_path) as cache:
        cache["x"] = os.urandom(100_000)
        forget_memory(cache)
        write_row(tmp_path, "x", filename=name)
        assert cache.get("x") is None
        assert cache.stats().damaged == 1
    assert (tmp_path / "secret").exists()
    assert (tmp_path / "cache" / "cache.db").exists()


def test_a_link_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x" * 100_000)
    with open_cache(tmp_path) as cache:
        cache["x"] = os.urandom(100_000)
        forget_memory(cache)
        file = value_file(tmp_path)
        file.unlink()
        file.symlink_to(tmp_path / "secret")
        assert cache.get("x") is None
    assert (tmp_path / "secret").exists()


@pytest.mark.parametrize("change", [b"", b"x" * 100, b"\0" * 2_000_000])
def test_a_file_of_another_size_counts_as_missing(tmp_path: Path, change: bytes) -> None:
    with open_cache(tmp_path) as cache:
        cache["x"] = np.arange(100_000)
        forget_memory(cache)
        value_file(tmp_path).write_bytes(change)
        assert cache.get("x") is None
        assert cache.get_or_compute("x", lambda: 5) == 5


def test_a_file_that_is_gone_counts_as_missing(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        cache["x"] = np.arange(100_000)
        forget_memory(cache)
        value_file(tmp_path).unlink()
        assert cache.get("x") is None
        assert cache.stats().damaged == 0


def test_arrow_data_with_offsets_out_of_bounds_is_refused(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        strings = ["some text"] * 10_000
        for value in (pa.table({"x": strings}), {"tree": np.zeros(4000), "t": pa.table({"x": strings})}):
            cache["x"] = value
            forget_memory(cache)
            file = value_file(tmp_path)
            data = bytearray(file.read_bytes())
            offsets = np.arange(0, 9 * 10_001, 9, dtype="i4").tobytes()
            place = data.index(offsets[:400])
            data[place + 4000 : place + 4004] = (0x7FFFFFF0).to_bytes(4, "little")
            file.write_bytes(data)
            assert cache.get("x") is None
        assert cache.stats().damaged == 2


def test_a_database_that_is_none_is_refused(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        cache["x"] = 1
    for leftover in (tmp_path / "cache").glob("cache.db-*"):
        leftover.unlink()
    (tmp_path / "cache" / "cache.db").write_bytes(b"no database" * 1000)
    with pytest.raises(PlaneCorrupt, match="Remove the directory"):
        open_cache(tmp_path)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_directory_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("shmplane.cache.connections.create_file", refuse)
    with pytest.raises(PlaneSecurityError, match="that we may write to"):
        open_cache(tmp_path)


records = st.builds(
    Record,
    st.sampled_from(["array", "json", "bytes"]),
    st.just(IN_FILE),
    st.binary(max_size=50),
    st.just(b""),
    st.integers(0, 1 << 40),
    st.integers(0, 1 << 40),
    st.floats(0, 1e9),
)


@given(records)
def test_records_are_read_back(record: Record) -> None:
    assert unpack_record(pack_record(record)) == record


@given(records, st.data())
def test_a_damaged_record_is_refused(record: Record, data: st.DataObject) -> None:
    packed = bytearray(pack_record(record))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        unpack_record(bytes(packed))
    except PlaneCorrupt:
        return


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_row_with_any_byte_changed_is_the_value_or_missing(tmp_path: Path, data: st.DataObject) -> None:
    value = data.draw(st.sampled_from([{"a": [1, 2]}, b"bytes", "text", 4.5]))
    with open_cache(tmp_path) as cache:
        cache["x"] = value
        forget_memory(cache)
        row = bytearray(row_value(tmp_path, "x"))
        for _ in range(data.draw(st.integers(1, 3))):
            row[data.draw(st.integers(0, len(row) - 1))] ^= data.draw(st.integers(1, 255))
        write_row(tmp_path, "x", value=bytes(row))
        try:
            cache.get("x")
            cache["x"] = value
            assert cache["x"] == value
        except ShmplaneError as error:
            pytest.fail(f"{error!r}")

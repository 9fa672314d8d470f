"""``map_file``: what it shows, what it refuses, and what it keeps."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmplane import (
    ClosedError,
    FileTruncated,
    MappedFile,
    PlaneFull,
    PlaneSecurityError,
    UnsupportedValue,
    map_file,
)
from tests.support.forked import run_forked
from tests.support.processes import run_in_child, run_python
from tests.support.requires import can_mount_tmpfs, is_root, require

PAGE = 4096


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """100,000 doubles: not a whole number of pages."""
    path = tmp_path / "numbers.bin"
    np.arange(100_000.0).tofile(path)
    return path


# ------------------------------------------------------------------------------------------------- reading


def test_a_file_is_seen_as_an_array_without_reading_it(numbers: Path) -> None:
    mapped = map_file(numbers)
    array = mapped.array("f8")
    assert array.shape == (100_000,)
    assert array[77_777] == 77_777
    assert not array.flags.owndata


@given(
    dtype=st.sampled_from(["u1", "<i2", ">i4", "<f8", "<c16", "M8[ns]", "S3", "V5", [("a", "u1"), ("b", "<f8")]]),
    skip=st.integers(0, 9000),
    shape=st.one_of(st.integers(0, 50), st.lists(st.integers(0, 6), max_size=4).map(tuple)),
)
def test_an_array_has_the_bytes_that_numpy_reads(dtype: Any, skip: int, shape: Any) -> None:
    data = np.random.default_rng(0).integers(0, 256, 30_000).astype("u1").tobytes()
    path = Path(f"/proc/self/fd/{_memory_file(data)}")
    try:
        found = map_file(path).array(dtype, shape, skip)
        expected: Any = np.ndarray(shape, dtype, data, skip)
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert found.tobytes() == expected.tobytes()
    finally:
        os.close(int(path.name))


def _memory_file(data: bytes) -> int:
    fd = os.memfd_create("data")
    os.pwrite(fd, data, 0)
    return fd


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", ">i2", [("x", "<f4"), ("y", "u1", (3,))]])
def test_a_npy_file_says_itself_what_it_is(tmp_path: Path, order: Any, dtype: Any) -> None:
    array = np.full((5, 7), 9).astype(dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    found = map_file(tmp_path / "a.npy").array()
    assert found.dtype == array.dtype
    assert found.flags.f_contiguous == array.flags.f_contiguous
    assert found.tobytes() == array.tobytes()


def test_npy_files_of_all_versions_are_understood(tmp_path: Path) -> None:
    for version in [(1, 0), (2, 0), (3, 0)]:
        with open(tmp_path / "a.npy", "wb") as file:
            np.lib.format.write_array(file, np.arange(6).reshape(2, 3), version)
        assert map_file(tmp_path / "a.npy").array().tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_arrow_files_and_streams_are_tables_without_a_copy(tmp_path: Path, kind: str) -> None:
    import pyarrow as pa

    table = pa.table({"n": np.arange(100_000), "s": [str(number) for number in range(100_000)]})
    path = tmp_path / "t.arrow"
    with getattr(pa.ipc, f"new_{kind}")(str(path), table.schema) as writer:
        writer.write_table(table)
    before = pa.total_allocated_bytes()
    mapped = map_file(path)
    found = mapped.table()
    assert pa.total_allocated_bytes() - before < 10_000
    mapped.close()
    assert found.equals(table)
    assert map_file(path).table(check=True).equals(table)


def test_arrays_of_mode_r_cannot_be_made_writable(numbers: Path) -> None:
    array = map_file(numbers).array("f8")
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True
    assert map_file(numbers).array("f8", 3, 8).base is not None


# ------------------------------------------------------------------------------------------------- writing


def test_what_is_written_in_mode_r_plus_is_in_the_file_and_seen_by_all(numbers: Path) -> None:
    reader = map_file(numbers).array("f8")
    with map_file(numbers, "r+") as mapped:
        mapped.array("f8")[5] = -1
        mapped.flush()
    assert reader[5] == -1
    assert np.fromfile(numbers)[5] == -1


def test_what_is_written_in_mode_c_stays_here(numbers: Path) -> None:
    mapped = map_file(numbers, "c")
    mapped.array("f8")[5] = -1
    mapped.flush()
    assert mapped.array("f8")[5] == -1
    assert np.fromfile(numbers)[5] == 5


def test_mode_w_plus_makes_a_file_of_zeros_that_has_its_room(tmp_path: Path) -> None:
    mapped = map_file(tmp_path / "new", "w+", nbytes="1MiB")
    assert not mapped.array("u1").any()
    assert (tmp_path / "new").stat().st_blocks * 512 >= 1 << 20
    mapped.array("u1")[:] = 3
    assert (tmp_path / "new").read_bytes() == b"\3" * (1 << 20)
    assert list(tmp_path.iterdir()) == [tmp_path / "new"]


def test_mode_w_plus_leaves_those_who_mapped_the_old_file_what_they_have(numbers: Path) -> None:
    numbers.chmod(0o640)
    old = map_file(numbers).array("f8")
    new = map_file(numbers, "w+", nbytes=8)
    new.array("f8")[0] = 7
    assert old[99_999] == 99_999
    assert np.fromfile(numbers).tolist() == [7]
    assert numbers.stat().st_mode & 0o777 == 0o640


def test_mode_w_plus_follows_a_link(numbers: Path) -> None:
    link = numbers.with_name("link")
    link.symlink_to(numbers)
    map_file(link, "w+", nbytes=8)
    assert link.is_symlink()
    assert numbers.stat().st_size == 8


def test_after_resize_old_arrays_keep_their_range(tmp_path: Path) -> None:
    mapped = map_file(tmp_path / "log", "w+", nbytes=10)
    old = mapped.array("u1")
    mapped.resize(3 * PAGE)
    new = mapped.array("u1")
    assert (old.shape, new.shape, mapped.nbytes) == ((10,), (3 * PAGE,), 3 * PAGE)
    new[3] = 5
    assert old[3] == 5
    assert not new[10:].any()


def test_resize_of_a_file_that_another_program_made_longer_shows_the_rest(numbers: Path) -> None:
    mapped = map_file(numbers)
    with open(numbers, "ab") as file:
        file.write(bytes(8))
    assert mapped.array("f8").shape == (100_000,)
    mapped.resize()
    assert mapped.array("f8").shape == (100_001,)


def test_a_file_is_not_made_shorter(numbers: Path) -> None:
    with pytest.raises(ValueError, match="not made shorter"):
        map_file(numbers, "r+").resize(8)
    assert numbers.stat().st_size == 800_000


@pytest.mark.parametrize("mode", ["r", "c"])
def test_only_files_that_may_be_written_are_resized(numbers: Path, mode: Any) -> None:
    with pytest.raises(ValueError, match="mode 'r\\+'"):
        map_file(numbers, mode).resize(1 << 20)


def test_a_file_that_another_has_replaced_is_not_resized(numbers: Path) -> None:
    mapped = map_file(numbers, "r+")
    numbers.with_name("other").write_bytes(b"other")
    os.replace(numbers.with_name("other"), numbers)
    with pytest.raises(FileNotFoundError):
        mapped.resize(1 << 20)
    assert numbers.read_bytes() == b"other"


# ------------------------------------------------------------------------------------------------- closing


def test_arrays_and_tables_outlive_close_and_the_object(numbers: Path) -> None:
    mapped = map_file(numbers)
    array, window = mapped.array("f8"), next(mapped.windows(80))
    mapped.close()
    mapped.close()
    del mapped
    assert array[-1] == 99_999
    assert np.frombuffer(window)[9] == 9


def test_a_closed_file_says_so_and_still_what_it_was(numbers: Path) -> None:
    with map_file(numbers) as mapped:
        windows = mapped.windows(100)
        next(windows)
    assert (mapped.closed, mapped.nbytes, mapped.mode, mapped.path) == (True, 800_000, "r", numbers)
    assert "closed" in repr(mapped)
    uses: list[Any] = [
        lambda: mapped.array("f8"), mapped.table, lambda: mapped.windows(1), mapped.flush, mapped.resize,
        lambda: mapped.advise("random"), mapped.__enter__, lambda: next(windows),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(ClosedError):
            use()


def test_a_path_is_absolute_and_of_the_kind_that_was_given(numbers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(numbers.parent)
    assert map_file("numbers.bin").path == str(numbers)
    assert map_file(Path("numbers.bin")).path == numbers


def test_no_descriptor_is_kept_and_no_range_is_left(numbers: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    many = [map_file(numbers).array("f8") for _ in range(200)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert _ranges(numbers) == 200
    del many
    assert _ranges(numbers) == 0


def _ranges(path: Path) -> int:
    return Path("/proc/self/maps").read_text(encoding="utf-8").count(str(path))


def test_a_mapped_file_pickles_as_its_path(numbers: Path) -> None:
    copied: MappedFile = pickle.loads(pickle.dumps(map_file(numbers, "r+", access="random")))
    assert (copied.mode, copied.nbytes, copied.access) == ("r+", 800_000, "random")
    with pytest.raises(TypeError, match="private"):
        pickle.dumps(map_file(numbers, "c"))
    assert run_in_child(_sum, map_file(numbers)) == sum(range(100_000))


def _sum(mapped: MappedFile) -> float:
    return float(mapped.array("f8").sum())


def test_a_forked_child_uses_the_same_mapping(numbers: Path) -> None:
    mapped = map_file(numbers, "r+")
    array = mapped.array("f8")

    def act() -> None:
        assert array[9] == 9
        array[0] = 11
        mapped.resize(900_000)
        assert mapped.array("f8").shape == (112_500,)

    run_forked(act)
    assert array[0] == 11
    assert mapped.nbytes == 800_000
    mapped.resize()
    assert mapped.nbytes == 900_000


def test_threads_that_resize_leave_the_longest(tmp_path: Path) -> None:
    mapped = map_file(tmp_path / "log", "w+", nbytes=1)

    def resize(nbytes: int) -> None:
        with contextlib.suppress(ValueError):  # it is longer already
            mapped.resize(nbytes)

    threads = [threading.Thread(target=resize, args=(size,)) for size in range(PAGE, 20 * PAGE, PAGE)]
    for thread in threads[::-1]:
        thread.start()
    for thread in threads:
        thread.join()
    assert mapped.nbytes == 19 * PAGE == (tmp_path / "log").stat().st_size


def test_importing_the_package_does_not_load_it() -> None:
    code = "import shmplane, sys; print('numpy' in sys.modules, 'shmplane.files' in sys.modules)"
    assert run_python(code).stdout.split() == ["False", "False"]
    code = "import shmplane, sys; shmplane.map_file(sys.executable); print('numpy' in sys.modules)"
    assert run_python(code).stdout.split() == ["False"]


# ----------------------------------------------------------------------------------------------- truncation


def test_a_file_cut_by_another_process_is_found_out_at_the_next_call(numbers: Path) -> None:
    mapped = map_file(numbers)
    windows = mapped.windows(100_000)
    next(windows)
    run_in_child(os.truncate, str(numbers), 100_000)
    uses: list[Any] = [lambda: mapped.array("f8"), mapped.table, lambda: next(windows)]
    for use in uses:
        with pytest.raises(FileTruncated, match="100,000 now") as caught:
            use()
        assert caught.value.found == 100_000
    assert mapped.array("f8", 12_500)[-1] == 12_499  # what is still there


@pytest.mark.parametrize("hide", ["rename", "remove", "replace"])
def test_a_cut_file_is_found_out_also_when_it_has_lost_its_name(numbers: Path, hide: str) -> None:
    other = numbers.with_name("other")
    mapped = map_file(numbers)
    os.link(numbers, other)
    numbers.unlink()
    if hide == "replace":
        numbers.write_bytes(b"another file")
    assert mapped.array("f8")[-1] == 99_999
    os.truncate(other, 100_000)
    with pytest.raises(FileTruncated):
        mapped.array("f8")
    assert mapped.array("f8", 12_500)[-1] == 12_499


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_file_cut_to_nothing_is_found_out(numbers: Path, mode: Any) -> None:
    mapped = map_file(numbers, mode)
    numbers.write_bytes(b"")
    with pytest.raises(FileTruncated):
        mapped.array()
    with pytest.raises(FileTruncated):
        next(mapped.windows(10))


# ------------------------------------------------------------------------------------------------ bad input


def test_an_empty_file_has_empty_arrays_and_no_windows(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    modes: list[Any] = ["r", "r+", "c"]
    for mode in modes:
        mapped = map_file(path, mode)
        assert mapped.nbytes == 0
        assert mapped.array("f8").shape == (0,)
        assert mapped.array("f8", (3, 0)).shape == (3, 0)
        assert list(mapped.windows(10)) == []
        mapped.flush()
        with pytest.raises(ValueError, match="needs 24 B"):
            mapped.array("f8", 3)
        with pytest.raises(ValueError, match="no Arrow IPC"):
            mapped.table()
        with pytest.raises(ValueError, match=r"no \.npy file"):
            mapped.array()
    grown = map_file(path, "w+", nbytes=0)
    grown.resize(8)
    assert grown.array("f8").tolist() == [0]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"dtype": "O"}, UnsupportedValue, "plain bytes"),
        ({"dtype": [("a", "O")]}, UnsupportedValue, "plain bytes"),
        ({"dtype": "no dtype"}, TypeError, "not understood"),
        ({"dtype": "f8", "offset": -8}, ValueError, "outside"),
        ({"dtype": "f8", "offset": 800_001}, ValueError, "outside"),
        ({"dtype": "f8", "offset": 1}, ValueError, "no whole number"),
        ({"dtype": "f8", "offset": 0.0}, TypeError, "offset"),
        ({"dtype": "f8", "shape": 100_001}, ValueError, "needs 800,008 B"),
        ({"dtype": "f8", "shape": (2**62, 2**62)}, ValueError, "needs"),
        ({"dtype": "f8", "shape": (2**62, 2**62, 0)}, ValueError, "NumPy makes no"),
        ({"dtype": "f8", "shape": (-1,)}, ValueError, "negative"),
        ({"dtype": "f8", "shape": 1.5}, TypeError, "shape"),
        ({"dtype": "f8", "shape": (1,) * 65}, ValueError, "dimensions"),
        ({"dtype": "V0"}, ValueError, "no whole number"),
        ({"dtype": None, "offset": 8}, ValueError, "needs a dtype"),
        ({}, ValueError, "no .npy file"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(numbers: Path, arguments: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        map_file(numbers).array(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("numbers.bin", "w"), ValueError),
        (("numbers.bin", "r+", {"access": "fast"}), ValueError),
        (("numbers.bin", "r", {"nbytes": 3}), ValueError),
        (("numbers.bin", "w+"), ValueError),
        (("numbers.bin", "w+", {"nbytes": -1}), ValueError),
        (("numbers.bin", "w+", {"nbytes": 1.5}), TypeError),
        ((3,), TypeError),
        ((b"numbers.bin",), TypeError),
        (("missing",), FileNotFoundError),
        (("missing", "r+"), FileNotFoundError),
        (("missing/below", "w+", {"nbytes": 1}), FileNotFoundError),
        (("numbers.bin/below",), NotADirectoryError),
        ((".",), IsADirectoryError),
        ((".", "r+"), IsADirectoryError),
        ((".", "w+", {"nbytes": 1}), IsADirectoryError),
        (("fifo",), ValueError),
        (("/dev/zero",), ValueError),
        (("x" * 300,), ValueError),
        (("a\0b",), ValueError),
    ],
)
def test_what_cannot_be_mapped_is_refused(
    numbers: Path, monkeypatch: pytest.MonkeyPatch, arguments: Any, error: Any
) -> None:
    monkeypatch.chdir(numbers.parent)
    os.mkfifo("fifo")
    *positional, options = arguments if isinstance(arguments[-1], dict) else (*arguments, {})
    with pytest.raises(error):
        map_file(*positional, **options)
    assert sorted(os.listdir()) == ["fifo", "numbers.bin"]
    assert numbers.stat().st_size == 800_000


def test_a_file_without_permission_is_a_typed_permission_error(numbers: Path) -> None:
    numbers.chmod(0)

    def act() -> None:
        if is_root():
            os.setuid(65534)
        for mode, nbytes in (("r", None), ("r+", None), ("w+", 8)):
            with pytest.raises(PlaneSecurityError) as caught:
                map_file(numbers, mode, nbytes=nbytes)  # type: ignore[arg-type]
            assert isinstance(caught.value, PermissionError)

    run_forked(act)


def test_without_descriptors_a_file_is_a_typed_error(numbers: Path) -> None:
    code = (
        "import shmplane, sys, resource, os; shmplane.map_file(sys.argv[1])\n"
        "limit = max(map(int, os.listdir('/proc/self/fd'))) \n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))\n"
        "try: shmplane.map_file(sys.argv[1])\n"
        "except shmplane.PlaneFull as error: print(error.errno)\n"
    )
    assert int(run_python(code, str(numbers)).stdout) == errno.EMFILE


@pytest.mark.parametrize("cut", [6, 9, 50, 127, 128, 200])
def test_a_npy_file_that_ends_too_early_is_a_typed_error(tmp_path: Path, cut: int) -> None:
    np.save(tmp_path / "a.npy", np.arange(100))
    os.truncate(tmp_path / "a.npy", cut)
    with pytest.raises(FileTruncated):
        map_file(tmp_path / "a.npy").array()


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|O', 'fortran_order': False, 'shape': (3,)}",
        "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-3,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999999999999,)}",
        "{'descr': '<f8', 'fortran_order': 2, 'shape': (3,)}",
        "{'descr': '<f8', 'fortran_order': False}",
        "{'descr': 'nonsense', 'fortran_order': False, 'shape': (3,)}",
        "[" * 5000,
        "__import__('os').abort()",
        "",
        "3",
    ],
)
def test_a_npy_header_that_lies_is_a_typed_error(tmp_path: Path, header: str) -> None:
    text = header.encode()
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64))
    with pytest.raises((ValueError, UnsupportedValue, FileTruncated)):
        map_file(path).array()


@given(data=st.binary(max_size=200), position=st.integers(0, 300))
def test_a_npy_file_with_any_bytes_is_read_or_refused(data: bytes, position: int) -> None:
    import io

    whole = io.BytesIO()
    np.save(whole, np.arange(20.0))
    mutated = bytearray(whole.getvalue())
    mutated[position : position + len(data)] = data
    fd = _memory_file(bytes(mutated))
    try:
        map_file(f"/proc/self/fd/{fd}").array().tobytes()
    except (ValueError, UnsupportedValue, FileTruncated):
        pass
    finally:
        os.close(fd)


def _arrow_bytes() -> bytes:
    import pyarrow as pa

    table = pa.table({"n": list(range(50)), "s": [str(number) for number in range(50)]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


@given(data=st.binary(min_size=1, max_size=8), position=st.integers(0, 2000), cut=st.booleans())
def test_an_arrow_file_with_any_bytes_is_read_or_refused(data: bytes, position: int, cut: bool) -> None:
    mutated = bytearray(_arrow_bytes())
    position %= len(mutated)
    if cut:
        del mutated[position:]
    else:
        mutated[position : position + len(data)] = data
    fd = _memory_file(bytes(mutated))
    try:
        map_file(f"/proc/self/fd/{fd}").table(check=True).to_pylist()
    except (ValueError, FileTruncated):
        pass
    finally:
        os.close(fd)


def test_an_arrow_file_that_was_cut_says_so(tmp_path: Path) -> None:
    (tmp_path / "t.arrow").write_bytes(_arrow_bytes()[:-20])
    with pytest.raises(FileTruncated, match="cut short"):
        map_file(tmp_path / "t.arrow").table()


def test_a_full_disk_is_a_typed_error_and_changes_nothing(needs_mounts: None, tmp_path: Path) -> None:
    require(can_mount_tmpfs(), "needs `unshare --mount`")
    code = (
        "import shmplane, os, sys; os.chdir('/mnt')\n"
        "mapped = shmplane.map_file('a', 'w+', nbytes=8192); mapped.array('u1')[:] = 7\n"
        "for act in (lambda: shmplane.map_file('b', 'w+', nbytes='2MiB'), lambda: mapped.resize('2MiB'),\n"
        "            lambda: shmplane.map_file('a', 'w+', nbytes='2MiB')):\n"
        "    try: act()\n"
        "    except shmplane.PlaneFull as error: print(error.errno, os.listdir(), os.stat('a').st_size)\n"
        "mapped.resize(16384); print(int(mapped.array('u1').sum()))\n"
    )
    import subprocess
    import sys

    mount = 'mount -t tmpfs -o size=1m tmpfs /mnt && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", code],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": os.getcwd()}, timeout=60,
    )  # fmt: skip
    full = f"{errno.ENOSPC} ['a'] 8192"
    assert done.stdout.splitlines() == [full, full, full, str(7 * 8192)], done.stderr


def test_a_file_system_that_cannot_reserve_room_gets_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shmplane.system import libc

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(libc, "fallocate", refuse)
    mapped = map_file(tmp_path / "new", "w+", nbytes=3_000_001)
    mapped.resize(4_000_001)
    assert not mapped.array("u1").any()
    assert (tmp_path / "new").stat().st_blocks * 512 >= 4_000_000


def test_a_new_file_that_cannot_be_made_leaves_nothing(numbers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PlaneFull):
        map_file(numbers, "w+", nbytes=8)
    assert list(numbers.parent.iterdir()) == [numbers]
    assert np.fromfile(numbers)[9] == 9

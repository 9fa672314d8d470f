"""``plane.pull``: from a real ``shmplane serve``, and from servers that send what none of ours would."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import flight

import shmplane
from shmplane import BlockNotFound, PlaneCorrupt, PlaneFull, PlaneSecurityError, PullFailed, UnsafeCodec
from shmplane.flight import parse_ticket
from tests.support import requires
from tests.support.processes import DEADLINE_S

pytestmark = pytest.mark.guard_ignores("descriptors", reason="gRPC keeps its pollers from its first call on")

VALUES: dict[str, Any] = {
    "array": np.arange(600_000.0).reshape(1000, 600),
    "small": np.arange(5, dtype="i2"),
    "fortran": np.asfortranarray(np.arange(60_000.0).reshape(200, 300)),
    "nothing": np.zeros((0, 3)),
    "when": np.array(["2026-01-01"], "M8[ns]"),
    "table": pa.table({"x": range(400_000), "s": [f"row {number}" for number in range(400_000)]}),
    "no rows": pa.table({"x": pa.array([], pa.int32())}),
    "categories": pa.table({"c": pa.array(["a", "b", "a"]).dictionary_encode()}),
    "column": pa.chunked_array([[1, 2], [3]]),
    "pandas": pd.DataFrame({"a": [1, 2, 3], "c": list("xyz")}, index=pd.Index([5, 6, 7], name="key")),
    "series": pd.Series([1.5, 2.5], name="n"),
    "polars": pl.DataFrame({"z": [1, 2], "w": ["a", None]}),
    "bytes": os.urandom(3_000_000),
    "empty": b"",
    "json": {"limit": 5, "names": ["é", None]},
    "prices/2026": [1, 2],
}


@contextlib.contextmanager
def serving(
    *options: str, plane: str = "there", stderr: int | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """``shmplane serve``, ended by SIGTERM; its URL and process."""
    run = [sys.executable, "-X", "dev", "-W", "error", "-m", "shmplane", "serve", plane, "--json", *options]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=stderr) as process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            yield f"grpc{'+tls' if '--tls-cert' in options else ''}://{said['host']}:{said['port']}", process
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()


@pytest.fixture
def there(plane_root: Path) -> Iterator[shmplane.Plane]:
    """The plane that is served."""
    with shmplane.Plane("there") as plane:
        yield plane
        plane.destroy()


@pytest.fixture
def here(plane_root: Path) -> Iterator[shmplane.Plane]:
    """The plane that is pulled into."""
    with shmplane.Plane("here") as plane:
        yield plane
        plane.destroy()


def is_same(one: Any, other: Any) -> bool:
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        is_laid_out_alike = one.dtype == other.dtype and one.strides == other.strides
        return is_laid_out_alike and np.array_equal(one, other)
    if isinstance(one, memoryview) or not hasattr(one, "equals"):
        return bool(one == other)
    return bool(one.equals(other))


def test_every_kind_arrives_as_it_was(there: shmplane.Plane, here: shmplane.Plane) -> None:
    there.update(VALUES)
    there["tree"] = {"a": VALUES["array"], "t": VALUES["table"], "b": b"xy", "n": [1, 2]}
    there["records"] = shmplane.Records(
        [{"x": 1}, b"abc", VALUES["small"], {"a": VALUES["small"], "t": VALUES["table"]}]
    )
    there.append("records", shmplane.Records(["appended"]))
    there.append("table", pa.table({"x": [1], "s": ["appended"]}))
    with there.edit("array") as draft:
        draft.array[3, 3] = -1.0
    with serving() as (url, _):
        for name in there:
            with here.pull(url, name) as block, there.attach(name) as original:
                assert (block.name, block.kind, block.version) == (name, original.kind, 1)
        for name in VALUES:
            assert is_same(there[name], here[name]), name
        tree, original = here["tree"], there["tree"]
        assert is_same(tree["a"], original["a"])
        assert tree["t"].equals(original["t"])
        assert tree["b"] == b"xy"
        assert tree["n"] == [1, 2]
        records, original = here["records"], there["records"]
        assert [records[at] for at in (0, 1, 4)] == [{"x": 1}, b"abc", "appended"]
        assert is_same(records[2], original[2])
        assert records[3]["t"].equals(VALUES["table"])
        assert here.pull(url, "small").version == 2
        del tree, original


def test_of_a_table_the_columns_that_are_asked_for_come(there: shmplane.Plane, here: shmplane.Plane) -> None:
    there["table"] = VALUES["table"]
    there["array"] = VALUES["small"]
    with serving() as (url, _):
        assert here.pull(url, "table", columns=["s"]).table().equals(VALUES["table"].select(["s"]))
        with pytest.raises(ValueError, match="no column 'q'"):
            here.pull(url, "table", columns=["q"])
        with pytest.raises(ValueError, match="no columns"):
            here.pull(url, "array", columns=["x"])
        with pytest.raises(TypeError, match="list of names"):
            here.pull(url, "table", columns="s")


def test_columns_that_are_not_there_are_said_of_tables_of_any_width(
    there: shmplane.Plane, here: shmplane.Plane
) -> None:
    wide = {f"{number} columns": [f"column_{each:04}" for each in range(number)] for number in (100, 600, 1500)}
    wide |= {"long": ["é" * 5000], "many": [f"\U0001f600{each}" for each in range(3000)]}
    for name, columns in wide.items():
        there[name] = pa.table({column: [1] for column in columns})
    with serving() as (url, _):
        for name, columns in wide.items():
            for wanted in ("typo", "\U0001f600" * 3000):
                with pytest.raises(ValueError, match="the table has no column"):
                    here.pull(url, name, columns=[wanted])
            assert here.pull(url, name, columns=columns[-1:]).table().column_names == columns[-1:]


def test_a_name_that_is_not_there_is_no_block_whatever_it_says(there: shmplane.Plane, here: shmplane.Plane) -> None:
    with serving() as (url, _):
        for name in ("missing", "../../../etc/passwd", "/etc/passwd", "there/manifest"):
            with pytest.raises(BlockNotFound, match="no block of that name"):
                here.pull(url, name)
    assert here.names() == []


@pytest.mark.parametrize("url", ["", "x", "http://127.0.0.1:1", "grpc://", "grpc://h", "grpc://h:1/x", "grpc://u@h:1"])
def test_a_url_that_is_none_is_refused(here: shmplane.Plane, url: str) -> None:
    with pytest.raises(ValueError, match="write grpc://"):
        here.pull(url, "x")


def test_a_server_that_is_not_there_is_said(here: shmplane.Plane) -> None:
    with pytest.raises(PullFailed, match="Nothing was put"):
        here.pull("grpc://127.0.0.1:1", "x")


def test_only_who_has_the_token_reads(there: shmplane.Plane, here: shmplane.Plane, tmp_path: Path) -> None:
    there["x"] = VALUES["small"]
    (tmp_path / "token").write_text("open sesame\nanother line\n")
    with serving("--token-file", str(tmp_path / "token")) as (url, _):
        for token in (None, "open", "open sesame!"):
            with pytest.raises(PlaneSecurityError, match="token"):
                here.pull(url, "x", token=token)
        assert here.pull(url, "x", token="open sesame").nbytes == 10
        for token in ("", "a\nb", "é", " x"):
            with pytest.raises(ValueError, match="printable ASCII"):
                here.pull(url, "x", token=token)


def test_with_a_certificate_all_is_encrypted(there: shmplane.Plane, here: shmplane.Plane, tmp_path: Path) -> None:
    requires.require(shutil.which("openssl") is not None, "needs `openssl`")
    there["x"] = VALUES["array"]
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make = (
        "openssl",
        "req",
        "-x509",
        "-nodes",
        "-days",
        "2",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    )
    names = ("-subj", "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1")
    subprocess.run([*make, *names, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    with serving("--tls-cert", str(certificate), "--tls-key", str(key)) as (url, _):
        assert is_same(here.pull(url, "x", tls_ca=certificate).array(), there["x"])
        with pytest.raises(PullFailed):
            here.pull(url, "x")  # the system does not know who signed it
        with pytest.raises(PullFailed):
            here.pull(url.replace("+tls", ""), "x")


def test_a_plane_that_fills_up_in_the_middle_keeps_what_it_had(there: shmplane.Plane, plane_root: Path) -> None:
    there["bytes"] = bytes(6_000_000)
    there["table"] = pa.table({"x": np.random.default_rng(1).random(750_000)})
    with shmplane.Plane("narrow", capacity="4MiB") as narrow, serving() as (url, _):
        narrow["bytes"] = b"as before"
        for name in ("bytes", "table"):
            with pytest.raises(PlaneFull):
                narrow.pull(url, name)
        assert narrow["bytes"] == b"as before"
        assert narrow.names() == ["bytes"]
        narrow.destroy()


def test_a_pickle_is_pulled_only_where_pickles_are_read(there: shmplane.Plane, here: shmplane.Plane) -> None:
    there.put("p", {1, 2}, codec="pickle")
    with serving() as (url, _):
        with pytest.raises(UnsafeCodec):
            here.pull(url, "p")
        with shmplane.Plane("here", trust_pickle=True) as trusting:
            assert trusting.pull(url, "p").value() == {1, 2}


def test_a_plane_that_was_made_anew_is_served_again(there: shmplane.Plane, here: shmplane.Plane) -> None:
    there["x"] = 1
    with serving(stderr=subprocess.PIPE) as (url, process):
        assert process.stderr is not None
        assert here.pull(url, "x").value() == 1
        there.destroy()
        with flight.connect(url) as client:
            for ask in (lambda: here.pull(url, "x"), lambda: here.pull(url, "y"), lambda: list(client.list_flights())):
                with pytest.raises((PullFailed, flight.FlightUnavailableError), match="served was destroyed"):
                    ask()
        with shmplane.Plane("there") as anew:
            anew["x"] = 2
            assert here.pull(url, "x").value() == 2
            assert b"the new one is served" in process.stderr.readline()
            with pytest.raises(BlockNotFound):
                here.pull(url, "y")
            anew.destroy()


def test_what_is_sent_stays_as_it_was_while_the_name_moves_on(there: shmplane.Plane) -> None:
    there["x"] = np.zeros(2_000_000)
    with serving() as (url, _), flight.connect(url) as client:
        reader = client.do_get(flight.Ticket(b"x"))
        first = reader.read_chunk().data
        for value in (1.0, 2.0, 3.0):
            there["x"] = np.full(2_000_000, value)
        rest = reader.read_all()
        body = np.concatenate([first.column(0).to_numpy(), rest.column(0).to_numpy()])
        assert not body.view("f8").any()
        del reader, first, rest, body


def test_a_reader_that_does_not_read_does_not_keep_the_server_from_ending(there: shmplane.Plane) -> None:
    there["x"] = np.zeros(8_000_000)
    with serving() as (url, process), flight.connect(url) as client:
        reader = client.do_get(flight.Ticket(b"x"))
        reader.read_chunk()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        reader.cancel()
    deadline = time.monotonic() + DEADLINE_S
    while there.attach("x").leases > 1 and time.monotonic() < deadline:
        there.gc()
    assert there.attach("x").leases == 1


# As any other client of Arrow Flight sees it


def test_a_client_that_knows_nothing_of_planes_reads_tables(there: shmplane.Plane) -> None:
    there["prices"] = VALUES["table"]
    there["notes"] = VALUES["bytes"]
    with serving() as (url, _), flight.connect(url) as client:
        assert client.do_get(flight.Ticket(b"prices")).read_all().equals(VALUES["table"])
        part = client.do_get(flight.Ticket(b'\0{"name": "prices", "columns": ["x"], "rows": [10, 12]}')).read_all()
        assert part.to_pydict() == {"x": [10, 11]}
        assert client.do_get(flight.Ticket(b"notes")).read_all()["bytes"].to_numpy().tobytes() == VALUES["bytes"]
        info = client.get_flight_info(flight.FlightDescriptor.for_path("prices"))
        assert (info.total_records, info.schema) == (400_000, VALUES["table"].schema)
        assert client.do_get(info.endpoints[0].ticket).read_all().num_rows == 400_000
        assert [one.descriptor.path for one in client.list_flights()] == [[b"notes"], [b"prices"]]
        assert [one.descriptor.path for one in client.list_flights(b"p")] == [[b"prices"]]
        with pytest.raises(KeyError):
            client.do_get(flight.Ticket(b"missing"))
        for ticket in (b"", b"\xff", b"\0{}", b"x" * 500, b"\0" + b"[" * 50_000):
            with pytest.raises(flight.FlightServerError):
                client.do_get(flight.Ticket(ticket)).read_all()


def test_nobody_writes_to_what_is_served(there: shmplane.Plane) -> None:
    there["x"] = 1
    with serving() as (url, _), flight.connect(url) as client:
        with pytest.raises((NotImplementedError, flight.FlightError)):
            list(client.do_action("delete"))
        with pytest.raises((NotImplementedError, flight.FlightError)):  # noqa: PT012 - the writer says so when it is closed
            writer, _ = client.do_put(flight.FlightDescriptor.for_path("x"), VALUES["table"].schema)
            writer.write_table(VALUES["table"])
            writer.close()
        assert there["x"] == 1


# Servers that send what none of ours would


def said(kind: str = "bytes", *, frame: bytes = b"", **changed: Any) -> dict[bytes, bytes]:
    told = {"format": 1, "kind": kind, "origin": "arrow", "rows": -1, "nbytes": 4, **changed}
    return {b"shmplane.block": json.dumps(told).encode(), b"shmplane.frame": frame}


BYTES = pa.schema([pa.field("bytes", pa.uint8(), nullable=False)])
NUMBERS = pa.schema([("x", pa.int64())])


def of_bytes(*pieces: bytes, **told: Any) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    schema = BYTES.with_metadata(said(**told))
    return schema, [pa.record_batch([np.frombuffer(piece, "u1")], schema=schema) for piece in pieces]


def of_table(*columns: pa.Array, **told: Any) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    schema = pa.schema([("x", columns[0].type)], metadata=said("table", **told))
    return schema, [pa.record_batch([column], schema=schema) for column in columns]


def frame_of(value: Any) -> bytes:
    from shmplane.codecs import encode

    return encode(value).frame


def bad_text() -> pa.Array:
    return pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(np.array([0, 9, 4], "i4")), pa.py_buffer(b"abcd")])


def bad_text_in(value: Any) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """A value with the text "abc" in a table, as it would be sent, with the end of that text outside."""
    from shmplane.codecs import encode

    class Body(bytearray):
        def write(self, offset: int, piece: Any) -> None:
            self[offset : offset + memoryview(piece).nbytes] = memoryview(piece).cast("B")

    encoded = encode(value)
    body = Body(encoded.nbytes)
    encoded.write_to(body)
    good, bad = (np.array([0, end, 4], "i4").tobytes() for end in (3, 1 << 20))
    assert body.count(good) == 1
    return of_bytes(bytes(body).replace(good, bad), kind=encoded.kind, nbytes=encoded.nbytes, frame=encoded.frame)


TEXT = {"n": 1, "t": pa.table({"x": ["abc", "d"]})}

LIES: dict[str, tuple[pa.Schema, list[pa.RecordBatch]]] = {
    "says nothing that can be read": (BYTES.with_metadata({b"shmplane.block": b"{"}), []),
    "another format": of_bytes(b"abcd", format=2),
    "a kind that there is not": of_bytes(b"abcd", kind="script"),
    "a mutable array": of_bytes(b"abcd", kind="mutable"),
    "fewer bytes than none": of_bytes(b"abcd", nbytes=-1),
    "a table for bytes": (NUMBERS.with_metadata(said()), []),
    "fewer bytes than said": of_bytes(b"abc", frame=frame_of(b"abcd")),
    "more bytes than said": of_bytes(b"ab", b"cde", frame=frame_of(b"abcd")),
    "no frame": of_bytes(b"abcd"),
    "a frame of something else": of_bytes(b"abcd", frame=frame_of(np.zeros(4, "u1"))),
    "a frame of more bytes": of_bytes(b"abcd", frame=frame_of(b"abcdefgh")),
    "an array larger than its body": of_bytes(b"abcd", kind="array", frame=frame_of(np.zeros(5000))),
    "JSON that is none": of_bytes(b"[1, ", kind="json", frame=frame_of([1])),
    "a tree that is none": of_bytes(b"abcd", kind="tree", frame=frame_of({"a": np.zeros(9)})),
    "large and a tree that is none": of_bytes(bytes(99_999), kind="tree", nbytes=99_999, frame=frame_of({"a": np.zeros(9)})),
    "records that are none": of_bytes(b"abcd", kind="records", frame=frame_of(shmplane.Records([1, 2]))),
    "a record that is none": of_bytes(b"]" + bytes(39), kind="records", nbytes=40, frame=frame_of(shmplane.Records([1, 2]))),
    "text outside in a tree": bad_text_in(TEXT),
    "text outside in a record": bad_text_in(shmplane.Records([{"a": 1}, TEXT])),
    "fewer rows than said": of_table(pa.array([1, 2]), rows=3),
    "more rows than said": of_table(pa.array([1, 2]), pa.array([3]), rows=2),
    "text that lies outside its buffer": of_table(bad_text()),
    "an origin that there is not": of_table(pa.array([1]), origin="excel"),
    "an origin for a single column": of_table(pa.array([1]), origin="pandas-frame"),
}  # fmt: skip


TRUTHS: dict[str, tuple[pa.Schema, list[pa.RecordBatch]]] = {
    "a table": of_table(pa.array([1])),
    "bytes": of_bytes(b"abcd", frame=frame_of(b"abcd")),
}


class Liar(flight.FlightServerBase):  # type: ignore[misc]
    """Sends what its ticket says."""

    def do_get(self, _: Any, ticket: flight.Ticket) -> Any:
        name = parse_ticket(ticket.ticket).name
        if name in LIES or name in TRUTHS:
            schema, batches = {**LIES, **TRUTHS}[name]
            return flight.GeneratorStream(schema, iter(batches))
        schema = NUMBERS if name == "cut table" else of_bytes(nbytes=1 << 22, frame=frame_of(bytes(1 << 22)))[0]
        return flight.GeneratorStream(schema, self._cut(schema))

    def _cut(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for _ in range(3):
            yield pa.record_batch([pa.array(np.zeros(100_000), schema.field(0).type)], schema=schema)
        raise flight.FlightUnavailableError("the host went down")


@pytest.fixture(scope="module", autouse=True)
def liar() -> Iterator[str]:
    """It is there before any test: gRPC keeps what its first call opens, which would else be looked for after that test."""
    with Liar("grpc://127.0.0.1:0") as server:
        url = f"grpc://127.0.0.1:{server.port}"
        with flight.connect(url) as client:
            client.do_get(flight.Ticket(b"a table")).read_all()
        yield url


@pytest.mark.parametrize("lie", LIES)
def test_what_a_server_of_ours_would_not_send_is_not_put(here: shmplane.Plane, liar: str, lie: str) -> None:
    here[lie] = "as before"
    with pytest.raises(PlaneCorrupt):
        here.pull(liar, lie)
    assert here[lie] == "as before"
    assert [(block.name, block.kind) for block in here.blocks()] == [(lie, "json")]


def test_other_columns_than_were_asked_for_are_not_put(here: shmplane.Plane, liar: str) -> None:
    for name, columns in (
        ("more rows than said", ["y"]),
        ("more rows than said", []),
        ("fewer bytes than said", ["x"]),
    ):
        with pytest.raises(PlaneCorrupt):
            here.pull(liar, name, columns=columns)
    assert here.blocks() == []


@pytest.mark.parametrize("name", ["cut table", "cut bytes"])
def test_a_pull_that_is_cut_puts_nothing(here: shmplane.Plane, liar: str, name: str) -> None:
    with pytest.raises(PullFailed, match="the host went down"):
        here.pull(liar, name)
    assert here.blocks() == []


def test_a_server_that_says_nothing_for_too_long_is_left(here: shmplane.Plane) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        accepted: list[socket.socket] = []
        thread = threading.Thread(target=lambda: accepted.append(silent.accept()[0]))
        thread.start()
        with pytest.raises(PullFailed, match="nothing came for"):
            here.pull(f"grpc://127.0.0.1:{silent.getsockname()[1]}", "x", timeout=0.3)
        thread.join()
        accepted[0].close()


@pytest.mark.parametrize("error", [pa.ArrowInvalid, flight.FlightServerError, NotImplementedError, RuntimeError])
@pytest.mark.parametrize("text", ["none of yours", "long" * 10_000])
def test_what_a_server_refuses_in_its_own_way_was_not_pulled(
    here: shmplane.Plane, error: type[Exception], text: str
) -> None:
    class Refusing(flight.FlightServerBase):  # type: ignore[misc]
        def do_get(self, _: Any, ticket: flight.Ticket) -> Any:
            raise error(text)

    with Refusing("grpc://127.0.0.1:0") as server, pytest.raises(PullFailed):
        here.pull(f"grpc://127.0.0.1:{server.port}", "x")
    assert here.blocks() == []


def test_any_server_of_arrow_flight_can_be_pulled_from(here: shmplane.Plane) -> None:
    table = pa.table({"x": [1, 2, 3]})

    class Other(flight.FlightServerBase):  # type: ignore[misc]
        def do_get(self, _: Any, ticket: flight.Ticket) -> Any:
            return flight.RecordBatchStream(table)

    with Other("grpc://127.0.0.1:0") as server:
        assert here.pull(f"grpc://127.0.0.1:{server.port}", "x").table().equals(table)

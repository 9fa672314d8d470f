"""``shmplane serve``: what it refuses before it listens. What it serves is tested with ``plane.pull``."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import shmplane
from shmplane.cli import main


@pytest.fixture(autouse=True)
def _market(plane_root: Path) -> None:
    """A plane to serve, which goes with its root."""
    shmplane.Plane("market").close()


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    code = main(["serve", *options])
    said = capsys.readouterr()
    assert said.out == ""
    return code, said.err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_beyond_this_host_a_token_is_asked_for(capsys: pytest.CaptureFixture[str], host: str) -> None:
    code, err = refused(capsys, "market", "--host", host)
    assert code == 4
    assert "--token-file" in err


def test_what_is_not_there_is_not_found(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert refused(capsys, "missing")[0] == 3
    assert refused(capsys, "market", "--token-file", str(tmp_path / "missing"))[0] == 3
    pair = ["--tls-cert", str(tmp_path / "c"), "--tls-key", str(tmp_path / "k")]
    assert refused(capsys, "market", *pair)[0] == 3


@pytest.mark.parametrize("token", [b"", b"\n", b"  \nsecond line", b"\xff\xfe", b"a\x00b", b"a" * 5000])
def test_a_token_file_without_a_token_is_a_mistake(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, token: bytes
) -> None:
    (tmp_path / "token").write_bytes(token)
    assert refused(capsys, "market", "--token-file", str(tmp_path / "token"))[0] == 2


@pytest.mark.parametrize(
    "options", [["--port", "65536"], ["--port", "-1"], ["--port", "x"], ["--tls-cert", "c"], ["--tls-key", "k"]]
)
def test_options_that_cannot_be_are_mistakes(capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    assert refused(capsys, "market", *options)[0] == 2


@pytest.mark.guard_ignores("descriptors", reason="gRPC keeps its pollers from its first call on")
def test_a_port_that_somebody_has_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, err = refused(capsys, "market", "--port", str(taken.getsockname()[1]))
    assert code == 1
    assert "cannot listen" in err

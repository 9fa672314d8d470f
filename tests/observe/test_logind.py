"""RemoveIPC: read as systemd reads it, and said to those whom it concerns."""

from __future__ import annotations

from pathlib import Path

import pytest

from shmplane.observe.logind import check_logout, removes_ipc

ROOT = "/dev/shm"


def write(top: Path, path: str, text: str) -> None:
    (top / path).parent.mkdir(parents=True, exist_ok=True)
    (top / path).write_text(text)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """The root of a host that runs systemd."""
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, True),
        ({"etc/systemd/logind.conf": "[Login]\n#RemoveIPC=no\n"}, False),
        ({"etc/systemd/logind.conf": "[Login]\n#RemoveIPC=yes\n"}, True),
        ({"etc/systemd/logind.conf": "[Login]\nRemoveIPC = no\n"}, False),
        ({"etc/systemd/logind.conf": "[Other]\nRemoveIPC=no\n"}, True),
        ({"etc/systemd/logind.conf": "[Login]\nRemoveIPC=no\nRemoveIPC=yes\n"}, True),
        ({"usr/lib/systemd/logind.conf": "[Login]\nRemoveIPC=no\n"}, False),
        (
            {"etc/systemd/logind.conf": "[Login]\n", "usr/lib/systemd/logind.conf": "[Login]\nRemoveIPC=no\n"},
            True,
        ),
        (
            {
                "etc/systemd/logind.conf": "[Login]\nRemoveIPC=no\n",
                "usr/lib/systemd/logind.conf.d/10.conf": "[Login]\nRemoveIPC=yes\n",
            },
            True,
        ),
        (
            {
                "etc/systemd/logind.conf.d/10.conf": "[Login]\nRemoveIPC=no\n",
                "usr/lib/systemd/logind.conf.d/10.conf": "[Login]\nRemoveIPC=yes\n",
            },
            False,
        ),
        (
            {
                "etc/systemd/logind.conf.d/10.conf": "[Login]\nRemoveIPC=yes\n",
                "usr/lib/systemd/logind.conf.d/20.conf": "[Login]\nRemoveIPC=no\n",
            },
            False,
        ),
    ],
)
def test_the_last_word_of_all_files_counts(top: Path, files: dict[str, str], expected: bool) -> None:
    for path, text in files.items():
        write(top, path, text)
    assert removes_ipc(top)[0] == expected


def test_a_user_who_logs_out_is_warned_with_the_cure(top: Path) -> None:
    found = check_logout(ROOT, top=top, uid=4_000_001)
    assert found.status == "warn"
    assert "loginctl enable-linger 4000001" in found.cure
    assert "RemoveIPC=no" in found.cure


def test_nobody_is_warned_whose_planes_stay(top: Path, tmp_path: Path) -> None:
    assert check_logout(ROOT, top=tmp_path / "nothing", uid=4_000_001).status == "pass"
    assert check_logout(ROOT, top=top, uid=0).status == "pass"
    assert check_logout(str(tmp_path), top=top, uid=4_000_001).status == "pass"
    write(top, "var/lib/systemd/linger/4000001", "")
    assert check_logout(ROOT, top=top, uid=4_000_001).status == "pass"
    (top / "var/lib/systemd/linger/4000001").unlink()
    write(top, "etc/systemd/logind.conf.d/shmplane.conf", "[Login]\nRemoveIPC=no\n")
    assert check_logout(ROOT, top=top, uid=4_000_001).status == "pass"
    assert check_logout(f"{ROOT}/deeper", top=top, uid=4_000_001).status == "pass"

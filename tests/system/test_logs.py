"""Loggers: named after their packages, and silent until the application says where logs go."""

from __future__ import annotations

from tests.support.processes import run_python

SOURCE = """
import logging, sys
import shmplane.connections.reports, shmplane.scopes.stack
from shmplane.system import logger_of

for name in ("shmplane", "shmplane.connections", "shmplane.scopes", "shmplane.plane"):
    logger = logger_of(name)
    assert logger is logging.getLogger(name)
    assert [type(handler) for handler in logger.handlers] == [logging.NullHandler], (name, logger.handlers)
    logger.error("nobody asked for it")
logging.basicConfig(stream=sys.stdout, format="%(name)s: %(message)s")
logger.error("now somebody does")
"""


def test_each_package_has_a_logger_that_says_nothing_by_itself() -> None:
    done = run_python(SOURCE)
    assert done.stderr == ""
    assert done.stdout == "shmplane.plane: now somebody does\n"

"""Loggers: one a package, silent until the application says where logs go, as libraries' are."""

from __future__ import annotations

import logging

__all__ = ["logger_of"]

_ALL = __name__.partition(".")[0]


def logger_of(package: str) -> logging.Logger:
    """The logger of a package, named as it is; below that of the whole library, so that one handler gets everything."""
    for name in (_ALL, package):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
    return logging.getLogger(package)

"""Blocks over Arrow Flight: what a ticket asks for, what a stream says of its block, the client and the server.

Nothing here knows of planes: a server is given ways to find blocks, and a client yields what came. Arrow Flight itself is
loaded when a server or a stream is made.
"""

from typing import TYPE_CHECKING

from ..system import late_names
from .said import PIECE_NBYTES, Request, Said, check_columns, pack_ticket, parse_ticket, read_said

if TYPE_CHECKING:
    from .client import Incoming, open_stream
    from .server import Outgoing, Server

__getattr__ = late_names(__name__, {".client": "Incoming open_stream", ".server": "Outgoing Server"})

__all__ = [
    "check_columns", "Incoming", "open_stream", "Outgoing", "pack_ticket", "parse_ticket", "PIECE_NBYTES", "read_said",
    "Request", "Said", "Server",
]  # fmt: skip

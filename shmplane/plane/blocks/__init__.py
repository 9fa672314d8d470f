"""From a value to a live block, and back to a view of it: what the door of the plane needs of it."""

from .assign import assign
from .block import Block, unwrapped
from .build import Buffer, Builder, make_buffer, make_builder, open_mutable
from .claims import lease_current
from .missing import delete, no_such_block, rename
from .overflow import overflowing
from .putting import put
from .receiving import put_checked
from .streaming import Outgrown, put_stream
from .target import Target, check_target
from .views import find, held, revive, show

__all__ = [
    "assign", "Block", "Buffer", "Builder", "check_target", "delete", "find", "held", "lease_current", "make_buffer",
    "make_builder", "no_such_block", "open_mutable", "Outgrown", "overflowing", "put", "put_checked", "put_stream", "rename",
    "revive", "show", "Target", "unwrapped",
]  # fmt: skip

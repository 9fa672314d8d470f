"""Values to blocks and back: the only entrance to the codecs.

``encode`` chooses how a value is stored, in the order of the public contract; ``open_root`` and ``present``
bring it back, ``as_kind`` as something else. No library is imported before a value of its kind is met.
"""

from shmplane.codecs.base import Codec, Encoded, Memory, Sink
from shmplane.codecs.choice import KINDS, encode
from shmplane.codecs.convert import AS_KINDS, as_kind
from shmplane.codecs.describe import Description, describe
from shmplane.codecs.opening import open_root, open_table, present, presenter
from shmplane.codecs.raw import open_body
from shmplane.codecs.table import check_table

__all__ = [
    "AS_KINDS",
    "KINDS",
    "Codec",
    "Description",
    "Encoded",
    "Memory",
    "Sink",
    "as_kind",
    "check_table",
    "describe",
    "encode",
    "open_body",
    "open_root",
    "open_table",
    "present",
    "presenter",
]

"""Arrays that are to be made: their shape and dtype, checked before anything is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...system import own

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["model_of"]


def model_of(shape: Any, dtype: Any) -> npt.NDArray[Any]:
    """An array in C order that has this shape and dtype, and no elements of its own.

    Raises:
        ValueError, TypeError: there is no such array.
    """
    import numpy as np

    element: npt.NDArray[Any] = np.empty((), np.dtype(dtype))
    try:
        return np.broadcast_to(element, shape)
    except own(ValueError, TypeError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        message = f"there can be no array of shape {shape!r} and dtype {element.dtype}: {error}"
        raise kind(message) from error

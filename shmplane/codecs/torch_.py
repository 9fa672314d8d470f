"""Tensors of torch as arrays, and arrays as tensors: the memory is shared both ways.

Rule 1. A type that NumPy does not have is taken, and given back, as integers of its width with its name beside them; so
        neither way needs ``ml_dtypes``.
Rule 2. What a tensor has put off, a conjugation or a sign, is carried out first, in a copy. What is more than its
        elements (a gradient, an index of sparse ones, the scale of quantised ones) is refused, with what to do.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import UnsupportedValue
from ..system import own
from .codec import NoForm
from .dtypes import FOREIGN_NBYTES, foreign_name, words_dtype
from .libraries import with_cure

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["elements_of", "tensor_of", "tensor_of_words"]


def elements_of(tensor: Any) -> tuple[npt.NDArray[Any], str | None]:
    """The elements of a ``torch.Tensor``, which share its memory, and the name of their type when they are only words.

    Raises:
        UnsupportedValue: it is more than its elements, or has none here; the message says what to put instead.

    Cost: about 1 µs.
    """
    name, words = _names().get(tensor.dtype, (None, None))
    try:
        # torch refuses what is not plain elements in the memory of the CPU; words alone need no gradient.
        if name is None:
            return tensor.numpy(), None
        if not tensor.requires_grad:
            return tensor.view(words).numpy(), name
    except own(Exception):
        pass  # the reason is said below, unless something was only put off
    _check(tensor)
    try:
        plain = tensor.resolve_conj().resolve_neg()
        return (plain if name is None else plain.view(words)).numpy(), name
    except own(Exception) as error:
        _refuse(tensor, f"torch gives no access to its elements ({error})", "convert it to a plain tensor first")


@lru_cache(maxsize=1)
def _names() -> dict[Any, tuple[str, Any]]:
    """By the types of torch that NumPy does not have: their name, and integers of that width."""
    import torch

    words = {1: torch.uint8, 2: torch.int16, 4: torch.int32}
    there = {name: getattr(torch, name) for name in FOREIGN_NBYTES if hasattr(torch, name)}
    return {dtype: (name, words[FOREIGN_NBYTES[name]]) for name, dtype in there.items()}


def _check(tensor: Any) -> None:
    """Refuse what is more, or other, than elements."""
    import torch

    if tensor.is_quantized:
        _refuse(tensor, "its scale would be lost", "put tensor.dequantize(), or int_repr() beside scale and zero point")
    if tensor.is_nested:
        _refuse(tensor, "it is a nested tensor", "put list(tensor.unbind())")
    if tensor.layout != torch.strided:
        _refuse(tensor, f"its layout is {tensor.layout}", "put tensor.to_dense(), or its indices and values as a dict")
    if tensor.device.type == "meta":
        _refuse(tensor, "it is on device meta and has no elements", "put one that has")
    if tensor.device.type != "cpu":
        _refuse(tensor, f"it is on device {tensor.device}", "put tensor.cpu()")
    if tensor.requires_grad:
        _refuse(tensor, "it requires a gradient, which would be lost", "put tensor.detach()")


def _refuse(tensor: Any, why: str, cure: str) -> NoReturn:
    raise UnsupportedValue(
        f"a {type(tensor).__name__} of {tensor.dtype} cannot be stored: {why}; {cure}", type=type(tensor).__name__
    )


def tensor_of(array: npt.NDArray[Any]) -> Any:
    """A tensor over a writable array; ``NoForm`` when torch has no such dtype. Cost: about 2 µs."""
    name = foreign_name(array.dtype)
    if name is not None:
        return tensor_of_words(array.view(words_dtype(name)), name)
    torch = _torch()
    try:
        return torch.from_numpy(array)
    except own(TypeError, ValueError) as error:
        raise NoForm(f"torch has no tensor for dtype {array.dtype} ({error})") from error


def tensor_of_words(words: npt.NDArray[Any], name: str | None) -> Any:
    """A tensor of the type of that name over a writable array of words; without a name, as ``tensor_of``."""
    if name is None:
        return tensor_of(words)
    torch = _torch()
    dtype = getattr(torch, name, None)
    if dtype is None:
        raise NoForm(f"torch has no type {name}")
    return torch.from_numpy(words).view(dtype)


def _torch() -> Any:
    try:
        import torch
    except own(ModuleNotFoundError) as error:
        raise with_cure(error) from None
    return torch

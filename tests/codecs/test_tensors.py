"""Tensors of torch and types of ml_dtypes. CI installs both for these tests."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shmplane import codecs
from shmplane.codecs import dtypes
from shmplane.errors import UnsupportedValue
from tests.codecs.harness import LeasedMemory, body_of, convert, open_stored, points_into, round_trip, store

torch: Any = pytest.importorskip("torch")
ml_dtypes: Any = pytest.importorskip("ml_dtypes")

with warnings.catch_warnings():
    # torch says once that this type is experimental.
    warnings.simplefilter("ignore")
    torch.empty(1, dtype=torch.complex32)

#: every type of torch that is no other name of one, and not quantised
TORCH_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype) and not str(dtype).removeprefix("torch.").startswith(("q", "bit16"))
}
ML_DTYPES = [name for name in dtypes.FOREIGN_NBYTES if hasattr(ml_dtypes, name)]


def as_tensors(value: Any) -> Any:
    """``as_="torch"`` as a plane gives it, but over a copy of the body."""
    encoded, memory = store(value)
    return codecs.as_tensors(
        encoded.kind, encoded.frame, memory, lambda: memoryview(bytearray(memory.copy(memory.nbytes)))
    )


def words_of(tensor: Any) -> bytes:
    width = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.complex128}[
        tensor.element_size()
    ]
    return bytes(tensor.view(width).numpy().tobytes())


def tensor_of(dtype: Any, count: int = 24) -> Any:
    nbytes = np.random.default_rng(5).integers(0, 2, count * dtype.itemsize, "u1")
    return torch.from_numpy(nbytes).view(dtype)


def layouts(tensor: Any) -> dict[str, Any]:
    return {
        "plain": tensor,
        "2-d": tensor.reshape(4, 6),
        "transposed": tensor.reshape(4, 6).t(),
        "strided": tensor[::3],
        "3-d, in another order": tensor.reshape(2, 3, 4).permute(1, 2, 0),
        "0-d": tensor[5],
        "empty": tensor[:0].reshape(0, 3),
        "expanded": tensor[:4].unsqueeze(1).expand(4, 5),
        "from the middle": tensor[7:],
    }


@pytest.mark.parametrize("dtype", TORCH_DTYPES.values(), ids=TORCH_DTYPES.keys())
@pytest.mark.parametrize("within", ["alone", "in a tree"])
def test_tensors_of_every_dtype_come_back(dtype: Any, within: str) -> None:
    for layout, tensor in layouts(tensor_of(dtype)).items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            back = as_tensors(tensor) if within == "alone" else as_tensors({"x": [tensor, 1]})["x"][0]
        assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape), layout
        assert words_of(back) == words_of(tensor), layout


def test_the_types_that_are_stored_by_name_are_those_that_numpy_lacks() -> None:
    def is_of_numpy(dtype: Any) -> bool:
        try:
            torch.zeros(1, dtype=torch.uint8).expand(16).contiguous().view(dtype).numpy()
        except TypeError:
            return False
        return True

    assert {name for name, dtype in TORCH_DTYPES.items() if not is_of_numpy(dtype)} <= dtypes.FOREIGN_NBYTES.keys()
    for name in dtypes.FOREIGN_NBYTES:
        for library in (torch, ml_dtypes):
            kind = getattr(library, name, None)
            width = None if kind is None else kind.itemsize if library is torch else np.dtype(kind).itemsize
            assert width in (None, dtypes.FOREIGN_NBYTES[name]), name


@pytest.mark.parametrize("name", ML_DTYPES)
def test_arrays_of_ml_dtypes_come_back(name: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name))
    array = np.random.default_rng(3).integers(0, 2, 24 * dtype.itemsize, "u1").view(dtype).reshape(4, 6)
    for put in (array, array.T, array[:, ::2], array[1, 1], array[:0], np.array(array[1, 1])):
        for back in (round_trip(put), round_trip([put])[0]):
            assert (back.dtype, back.shape) == (dtype, put.shape)
            assert back.tobytes() == put.tobytes()
            assert not back.flags.writeable
            with pytest.raises(ValueError, match="cannot set WRITEABLE"):
                back.flags.writeable = True


def test_a_structure_may_have_fields_of_ml_dtypes() -> None:
    dtype = np.dtype([("a", ml_dtypes.bfloat16, (2,)), ("b", "i4")])
    array = np.zeros(3, dtype)
    array["a"] = 1.5
    for back in (round_trip(array), round_trip((array,))[0]):
        assert back.dtype == dtype
        assert back.tobytes() == array.tobytes()


def test_a_tensor_of_bfloat16_is_an_array_of_ml_dtypes_and_back() -> None:
    tensor = torch.tensor([1.5, -2.0, float("inf")], dtype=torch.bfloat16)
    array = round_trip(tensor)
    assert array.dtype == np.dtype(ml_dtypes.bfloat16)
    assert array.astype("f4").tolist() == [1.5, -2.0, float("inf")]
    assert torch.equal(as_tensors(array), tensor)


def test_foreign_byte_orders_and_unknown_types_are_refused() -> None:
    swapped = np.zeros(3, np.dtype(ml_dtypes.bfloat16).newbyteorder())
    with pytest.raises(UnsupportedValue, match="cannot be stored"):
        codecs.encode(swapped)


def test_python_values_of_ml_dtypes_are_numbers() -> None:
    back = convert(np.array([1.5, 2.0], ml_dtypes.bfloat16), "python")
    assert back == [1.5, 2.0]
    assert type(back[0]) is float
    assert convert({"a": np.array([1, -2], ml_dtypes.int4)}, "python") == {"a": [1, -2]}


def test_what_torch_alone_has_is_read_as_a_tensor() -> None:
    tensor = tensor_of(torch.int3)
    for value in (tensor, [tensor]):
        kind, frame, memory = _stored(value)
        with pytest.raises(UnsupportedValue, match=r'no dtype for torch\.int3; get it with as_="torch"'):
            codecs.present(kind, codecs.CODECS[kind].open(frame, memory))
    assert words_of(as_tensors([tensor])[0]) == words_of(tensor)
    assert codecs.describe("array", codecs.encode(tensor).frame).dtype_name == "int3"


def _stored(value: Any) -> tuple[str, bytes, LeasedMemory]:
    encoded = codecs.encode(value)
    return encoded.kind, encoded.frame, LeasedMemory(body_of(encoded))


def test_elements_are_taken_where_they_lie() -> None:
    tensor = torch.arange(3000, dtype=torch.float32)
    encoded: Any = codecs.encode(tensor)
    assert encoded.array.__array_interface__["data"][0] == tensor.data_ptr()
    words: Any = codecs.encode(tensor.to(torch.bfloat16).t())
    assert words.array.dtype == np.dtype("i2")


def test_leaves_are_shown_where_they_lie() -> None:
    encoded, memory = store({"a": torch.arange(100), "b": (torch.ones(7, dtype=torch.bfloat16), b"bytes")})
    body = bytearray(memory.copy(memory.nbytes))
    tensors = codecs.as_tensors("tree", encoded.frame, memory, lambda: memoryview(body))
    start = np.frombuffer(body, "u1").__array_interface__["data"][0]
    for tensor in (tensors["a"], *tensors["b"]):
        assert start <= tensor.data_ptr() < start + len(body)
    assert tensors["a"].data_ptr() % 16 == start % 16
    tensors["a"][0] = 77  # it is writable, and nobody else's
    assert not points_into(memory)(tensors["a"].data_ptr())
    assert tensors["b"][1].tolist() == list(b"bytes")


class Wrapped(torch.Tensor):  # type: ignore[misc]
    pass


def test_parameters_and_subclasses_come_back_as_plain_tensors() -> None:
    parameter = torch.nn.Parameter(torch.ones(3), requires_grad=False)
    back = as_tensors({"p": parameter, "w": torch.ones(2).as_subclass(Wrapped)})
    assert type(back["p"]) is type(back["w"]) is torch.Tensor
    assert not back["p"].requires_grad


def test_lazy_signs_and_conjugations_are_carried_out() -> None:
    z = torch.tensor([1 + 2j, 3 - 4j])
    half = z.to(torch.complex32)
    for lazy in (
        z.conj(),
        z.conj().imag,
        torch._neg_view(z.real),
        half.conj(),
        torch._neg_view(torch.ones(2).bfloat16()),
    ):
        back = as_tensors([lazy])[0]
        assert words_of(back) == words_of(lazy.resolve_conj().resolve_neg())
        assert words_of(as_tensors(lazy)) == words_of(back)


def quantised() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)


def nested() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


def compressed() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.eye(3).to_sparse_csr()


REFUSED: dict[str, tuple[Any, str]] = {
    "gradient": (torch.ones(2, requires_grad=True), r"requires a gradient.*put tensor\.detach\(\)"),
    "gradient of bfloat16": (torch.ones(2, dtype=torch.bfloat16, requires_grad=True), r"put tensor\.detach\(\)"),
    "parameter": (torch.nn.Parameter(torch.ones(2)), r"a Parameter of torch.float32.*put tensor\.detach\(\)"),
    "sparse": (torch.eye(3).to_sparse(), r"layout is torch.sparse_coo.*to_dense"),
    "sparse bfloat16": (torch.eye(3, dtype=torch.bfloat16).to_sparse(), "to_dense"),
    "compressed": (compressed(), "to_dense"),
    "meta": (torch.ones(2, device="meta"), "device meta and has no elements"),
    "meta bfloat16": (torch.ones(2, device="meta", dtype=torch.bfloat16), "device meta"),
    "quantised": (quantised(), r"dequantize\(\)"),
    "nested": (nested(), r"list\(tensor\.unbind\(\)\)"),
}


@pytest.mark.parametrize(("tensor", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_more_than_elements_is_refused_with_what_to_do(tensor: Any, says: str) -> None:
    with pytest.raises(UnsupportedValue, match=says):
        codecs.encode(tensor)
    with pytest.raises(UnsupportedValue, match=rf'value\["a"\]\[1\]: .*{says}'):
        codecs.encode({"a": [np.ones(2), tensor]})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.array(["x"]), "torch has no tensor for dtype <U1"),
        (np.zeros(2, "M8[s]"), "torch has no tensor for dtype datetime64"),
        (np.zeros(2, ">f8"), "torch has no tensor for dtype >f8"),
        (np.zeros(2, [("a", "i4")]), "torch has no tensor"),
        (np.zeros(2, ml_dtypes.float8_e3m4), "torch has no type float8_e3m4"),
    ],
)
def test_what_torch_has_no_type_for_is_refused_with_its_place(value: Any, says: str) -> None:
    with pytest.raises(UnsupportedValue, match=rf"as_='torch': {says}.*Possible: array.*torch"):
        as_tensors(value)
    with pytest.raises(UnsupportedValue, match=rf'as_=.torch.: value\["a"\]\[1\]: {says}.*Possible: python, torch'):
        as_tensors({"b": np.ones(1), "a": [np.ones(2), value]})


def test_columns_are_tensors_and_tables_are_not() -> None:
    assert as_tensors([pa.chunked_array([[1.5, 2.5]])])[0].tolist() == [1.5, 2.5]
    assert convert(pa.chunked_array([[1, 2]]), "torch").tolist() == [1, 2]
    with pytest.raises(UnsupportedValue, match=r"value\[0\]: it has 2 columns"):
        as_tensors([pa.table({"a": [1], "b": [2]})])
    for value in ({"a": 1}, "text"):
        kind, root = open_stored(value)
        with pytest.raises(UnsupportedValue, match="Possible: bytes, python"):
            codecs.as_kind(kind, root, "torch")


WITHOUT = """
import sys
sys.modules["ml_dtypes"] = None  # as if it were not installed
{torch}
import numpy as np, shmplane
with shmplane.Plane.temporary() as plane:
    plane["x"], plane["t"] = {value}
    for name in "xt":
        for get in (lambda: plane[name], lambda: plane.get(name, as_="python")):
            try:
                get()
            except ModuleNotFoundError as error:
                assert "pip install ml_dtypes" in str(error), error
            else:
                raise SystemExit("read without the library")
        got = plane.get(name, as_="torch")
        assert (got if name == "x" else got["a"]).float().tolist() == [1.0, 1.0]
    assert "<Block 'x'" in repr(plane.attach("x"))
    from shmplane.cli import main
    assert main(["info", plane.name, "x", "--root", plane.root]) == 0
"""


def test_tensors_need_no_ml_dtypes_and_arrays_say_what_to_install() -> None:
    value = 'torch.ones(2, dtype=torch.bfloat16), {"a": torch.ones(2, dtype=torch.float8_e4m3fn)}'
    script = WITHOUT.replace("{torch}", "import torch").replace("{value}", value)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "bfloat16" in done.stdout


def test_without_torch_its_forms_say_what_to_install() -> None:
    script = """
import sys
sys.modules["torch"] = None
import numpy as np, shmplane
with shmplane.Plane.temporary() as plane:
    plane["x"], plane["t"] = np.ones(2), {"a": np.ones(2)}
    for name in "xt":
        for get in (lambda: plane.get(name, as_="torch"), plane.attach(name).to_torch):
            try:
                get()
            except ModuleNotFoundError as error:
                assert "pip install torch" in str(error), error
            else:
                raise SystemExit("a tensor without torch")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

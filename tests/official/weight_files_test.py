"""PyTorch's files without PyTorch: what torch wrote is read exactly, what is damaged or hostile is refused unread."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from cut_tf.common.errors import InputError
from cut_tf.official.weight_files import read_weights
from cut_tf.official.writing import pth_bytes

DATA = Path(__file__).parents[1] / "testdata" / "official"
MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
SYSTEM = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}, 2)
VALUES = np.arange(12, dtype=np.float32)


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _archive(pickled: bytes, folder: str = "net", compression: int = zipfile.ZIP_STORED, **records: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        archive.writestr(f"{folder}/data.pkl", pickled)
        for name, data in records.items():
            archive.writestr(f"{folder}/{name}" if name == "byteorder" else f"{folder}/data/{name[1:]}", data)
    return content.getvalue()


def _text(value: str) -> bytes:
    """As Python 3 pickles it."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _tensor(offset: int = 0, shape: tuple = (3, 4), strides: tuple = (4, 1), count: int = 12, view: bytes = b"",
            kind: str = "FloatStorage") -> bytes:
    """A call of torch._utils._rebuild_tensor_v2, operation by operation."""
    storage = (b"(" + _text("storage") + f"ctorch\n{kind}\n".encode() + _text("7") + _text("cpu")
               + pickle.dumps(count, 2)[2:-1] + view + b"tQ")
    numbers = b"".join(b"(" + b"".join(pickle.dumps(number, 2)[2:-1] for number in numbers) + b"t"
                       for numbers in (shape, strides))
    return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + pickle.dumps(offset, 2)[2:-1] + numbers
            + b"\x89ccollections\nOrderedDict\n)RtR")


def _state(tensor: bytes, name: str = "a.weight") -> bytes:
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + _text(name) + tensor + b"u."


def _stream(state: bytes, values: np.ndarray = VALUES, keys: tuple = ("7",)) -> bytes:
    """The legacy format."""
    return (MAGIC + SYSTEM + state + pickle.dumps(list(keys), 2) + struct.pack("<q", values.size) + values.tobytes())


# ---- what torch wrote ---------------------------------------------------------------------------------------------


def test_both_formats_and_all_types_are_read(testdata):
    """The projector's outputs for ones, computed from the file; and every type of number that the files have."""
    expected = np.load(DATA / "expected.npz")
    projector = read_weights(DATA / "cut_F.pth")
    for index in range(5):
        first, second = (projector[f"mlp_{index}.{place}.weight"] for place in (0, 2))
        hidden = np.maximum(first.sum(1) + projector[f"mlp_{index}.0.bias"], 0)
        np.testing.assert_allclose(second @ hidden + projector[f"mlp_{index}.2.bias"], expected[f"cut_F.{index}"][0],
                                   rtol=1e-5, atol=1e-6)
    for name in ("cyclegan_G", "dropout_G", "batch_G", "cut_G"):
        weights = read_weights(DATA / f"{name}.pth")
        assert all(array.dtype == np.float32 for array in weights.values())
        assert not any("tracked" in key for key in weights)  # integers
        # All lie on a grid of 1/64, but blurs and variances.
        grid = [value for key, value in weights.items() if not key.endswith(("filt", "running_var"))]
        assert all(np.array_equal(value * 64, np.round(value * 64)) for value in grid)


def test_safetensors_are_read(tmp_path):
    pytest.importorskip("safetensors", reason="the extra weights (safetensors) is not installed")
    weights = read_weights(DATA / "none_G.safetensors")
    assert weights["model.1.weight"].shape == (3, 3, 7, 7) and weights["model.1.weight"].dtype == np.float32
    np.testing.assert_array_equal(weights["model.1.weight"] * 64, np.round(weights["model.1.weight"] * 64))
    content = (DATA / "none_G.safetensors").read_bytes()
    for damaged in (content[:-1], content + b"0", struct.pack("<Q", 3) + b'{"a'):
        with pytest.raises(InputError, match=r"net\.safetensors: .*damaged safetensors"):
            read_weights(_write(tmp_path / "net.safetensors", damaged))


def test_safetensors_without_the_package_say_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(InputError, match=r"pip install 'cut_tf\[weights\]'"):
        read_weights(DATA / "none_G.safetensors")


# ---- forms of older and other writers -----------------------------------------------------------------------------


def test_views_strides_offsets_and_types(tmp_path):
    def read(tensor: bytes, values: np.ndarray = VALUES) -> np.ndarray:
        found = read_weights(_write(tmp_path / "net.pth", _archive(_state(tensor), _7=values.tobytes())))
        (again,) = read_weights(_write(tmp_path / "old.pth", _stream(_state(tensor), values))).values()
        np.testing.assert_array_equal(found["a.weight"], again)
        return again

    whole = VALUES.reshape(3, 4)
    np.testing.assert_array_equal(read(_tensor()), whole)
    np.testing.assert_array_equal(read(_tensor(shape=(4, 3), strides=(1, 4))), whole.T)
    np.testing.assert_array_equal(read(_tensor(offset=5, shape=(2,), strides=(3,))), [5, 8])
    np.testing.assert_array_equal(read(_tensor(shape=(2, 0), strides=(1, 1))), np.zeros([2, 0]))
    assert read(_tensor(offset=11, shape=(), strides=())) == 11
    for kind, dtype in (("DoubleStorage", np.float64), ("HalfStorage", np.float16)):
        np.testing.assert_array_equal(read(_tensor(kind=kind), VALUES.astype(dtype)), whole)
    upper_halves = (VALUES.view(np.uint32) >> 16).astype(np.uint16)
    np.testing.assert_array_equal(read(_tensor(kind="BFloat16Storage"), upper_halves), whole)
    big = _archive(_state(_tensor()), _7=VALUES.astype(">f4").tobytes(), byteorder=b"big")
    np.testing.assert_array_equal(read_weights(_write(tmp_path / "big.pth", big))["a.weight"], whole)


def test_forms_of_old_pytorch_and_of_python_2(tmp_path):
    view = b"(" + _text("part") + pickle.dumps(4, 2)[2:-1] + pickle.dumps(8, 2)[2:-1] + b"t"
    part = read_weights(_write(tmp_path / "view.pth", _stream(_state(_tensor(shape=(8,), strides=(1,), view=view)))))
    np.testing.assert_array_equal(part["a.weight"], VALUES[4:])
    first = _tensor().replace(b"_v2", b"").replace(b"\x89ccollections\nOrderedDict\n)RtR", b"tR")
    text = b"\x80\x02ccollections\nOrderedDict\n]]U\x08a.weight" + b"a" + first + b"aa\x85R."
    np.testing.assert_array_equal(read_weights(_write(tmp_path / "py2.pth", _stream(text)))["a.weight"],
                                  VALUES.reshape(3, 4))
    parallel = _state(_tensor(), "module.model.1.weight")
    assert list(read_weights(_write(tmp_path / "parallel.pth", _stream(parallel)))) == ["model.1.weight"]
    cuda = _state(_tensor()).replace(b"ctorch\nFloat", b"ctorch.cuda\nFloat")
    assert list(read_weights(_write(tmp_path / "cuda.pth", _stream(cuda)))) == ["a.weight"]


def test_an_empty_state_dict_has_no_weights(tmp_path):
    assert read_weights(_write(tmp_path / "net_F.pth", pth_bytes({}))) == {}


# ---- what is refused ----------------------------------------------------------------------------------------------


class _Runs:
    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self._marker),)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", [lambda evil: evil, lambda evil: {"model.1.weight": evil},
                                   lambda evil: OrderedDict(a=[evil])])
def test_nothing_is_ever_executed(tmp_path, protocol, place):
    pickled = pickle.dumps(place(_Runs(tmp_path / "marker")), protocol)
    for content in (_archive(pickled), MAGIC + SYSTEM + pickled, pickled, MAGIC + pickled):
        with pytest.raises(InputError, match=r"evil\.pth: must be a state dict"):
            read_weights(_write(tmp_path / "evil.pth", content))
    assert not (tmp_path / "marker").exists()


def _nest(times: int) -> bytes:
    """A tuple of itself twice, again and again: to hash or print it takes 2^times steps."""
    return b")q\x000" + b"h\x00h\x00\x86q\x000" * times + b"h\x00"


@pytest.mark.parametrize("pickled, reason", [
    (b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.", "os.system"),
    (b"\x80\x02cbuiltins\ngetattr\n)R.", "builtins.getattr"),
    (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "takes other arguments"),
    (b"\x80\x02cos\nsystem\n)\x81.", "NEWOBJ"), (b"(S'ls'\nios\nsystem\n.", "INST"), (b"\x80\x02\x82\x01.", "EXT1"),
    (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".", "damaged"),
    (b"\x80\x02\x8b" + struct.pack("<i", 100) + b"\x7f" * 100 + b".", "more than 80 bits"),
    (b"\x80\x02}" + _nest(60) + b"K\x01s.", "a key that is no text"),
    (b"\x80\x02" + _nest(60) + b".", "of the type tuple"),
    (b"\x80\x02" + b"(" * 70_000 + b".", "operations"), (b"\x80\x02" + b"]" * 1000 + b".", "more than one object"),
    (b"\x80\x02}K\x01a.", "appends to what is no list"), (b"\x80\x02h\x05.", "recalls what it never kept"),
    (b"\x80\x02R.", "takes more than it has"), (b"\x80\x02e.", "takes more than it has"), (b"\x80\x02", "damaged"),
    (b"\x80\x02K\x01Q.", "no storage"), (pickle.dumps({"a": 1}, 2), "entry 'a' is no tensor but of the type int"),
    (pickle.dumps([1], 2), "object of the type list"), (b"", "damaged")], ids=range(21))
def test_hostile_pickles_are_refused_at_once(tmp_path, pickled, reason):
    for content in (_archive(pickled), MAGIC + SYSTEM + pickled):
        with pytest.raises(InputError, match=rf"evil\.pth: must be a state dict.*{reason}"):
            read_weights(_write(tmp_path / "evil.pth", content))


@pytest.mark.parametrize("changes, reason", [
    ({"offset": 1}, "ends 1 values behind its storage of 12"), ({"strides": (5, 1)}, "ends 2 values"),
    ({"shape": (2**41, 1)}, "not between 0 and 2\\^40"), ({"shape": (-1, 4)}, "not between"),
    ({"offset": -1}, "not between"), ({"strides": (4,)}, "2 sides and 1 strides"),
    ({"shape": (1,) * 9, "strides": (1,) * 9}, "at most 8"), ({"shape": (2**40,), "strides": (0,)}, "larger than the"),
    ({"count": 2**40, "shape": (1, 1)}, "larger than the file|should have 1099511627776"),
    ({"kind": "ComplexFloatStorage"}, "unknown type"), ({"count": 13}, "should have"),
    ({"view": b"(X\x01\x00\x00\x00vK\x05K\x08t"}, "of a storage of 12|2 sides")], ids=str)
def test_tensors_that_reach_beyond_their_file_are_refused(tmp_path, changes, reason):
    state = _state(_tensor(**changes))
    for content in (_archive(state, _7=VALUES.tobytes()), _stream(state)):
        with pytest.raises(InputError, match=rf"net\.pth: must be a state dict.*({reason})"):
            read_weights(_write(tmp_path / "net.pth", content))


def test_many_views_of_one_storage_are_no_way_to_more_memory(tmp_path):
    one = b"".join(_text(f"w{number}") + _tensor() for number in range(200))
    state = b"\x80\x02ccollections\nOrderedDict\n)R(" + one + b"u."
    read_weights(_write(tmp_path / "net.pth", _stream(state)))  # small ones are allowed
    large = VALUES.repeat(1000)
    one = b"".join(_text(f"w{number}") + _tensor(shape=(12000,), strides=(1,), count=12000) for number in range(200))
    with pytest.raises(InputError, match="larger than the file"):
        state = b"\x80\x02ccollections\nOrderedDict\n)R(" + one + b"u."
        read_weights(_write(tmp_path / "net.pth", _stream(state, large)))


@pytest.mark.parametrize("content, reason", [
    (b"", "an empty file"), (b"\x80", "damaged"), (b"PK\x03\x04", "damaged archive"), (b"RIFF....", "neither"),
    (pickle.dumps({}, 2), "torch.save did not write"), (struct.pack("<Q", 2**60) + b"{", "neither"),
    (_archive(_state(_tensor()), compression=zipfile.ZIP_DEFLATED, _7=VALUES.tobytes()), "compressed"),
    (_archive(_state(_tensor())), "without the entry 'net/data/7'"),
    (_archive(_state(_tensor()), _7=VALUES.tobytes(), byteorder=b"middle"), "order of bytes"),
    (_stream(_state(_tensor()), keys=("8",)), "list of storages"), (_stream(_state(_tensor()))[:-1], "cut off"),
    (_stream(_state(_tensor())) + b"0", "1 bytes follow"), (_stream(_state(_tensor()), VALUES[:-1]), "should have 12"),
    (_archive(pickle.dumps({}, 2), **{f"_{number}": b"" for number in range(20_000)}), "larger than 1 MiB")],
    ids=range(14))
def test_damaged_files_are_refused_with_the_reason(tmp_path, content, reason):
    with pytest.raises(InputError, match=rf"net\.pth: must be a state dict.*{reason}"):
        read_weights(_write(tmp_path / "net.pth", content))


def test_weights_that_are_not_finite_and_missing_files_are_named(tmp_path):
    values = np.where(VALUES == 3, np.nan, VALUES).astype(np.float32)
    with pytest.raises(InputError, match=r"net\.pth: weights must be finite, found others in 'a\.weight'"):
        read_weights(_write(tmp_path / "net.pth", _stream(_state(_tensor()), values)))
    with pytest.raises(InputError, match=r"gone\.pth: cannot be read: No such file"):
        read_weights(tmp_path / "gone.pth")
    with pytest.raises(InputError, match="cannot be read"):
        read_weights(tmp_path)


# ---- thousands of damaged files -----------------------------------------------------------------------------------

_WHOLE = [(DATA / "cut_D.pth").read_bytes(), (DATA / "batch_D.pth").read_bytes(), _stream(_state(_tensor())),
          _archive(_state(_tensor()), _7=VALUES.tobytes())]


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """A file of torch with bytes changed, cut off, repeated or put in; numbers get the values that programs fear."""
    data = bytearray(draw(st.sampled_from(_WHOLE)))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data) - 1))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            data[place] = draw(st.integers(0, 255))
        elif kind == 1:
            del data[max(place, 1):]
        elif kind == 2:
            data[place:place] = data[place:place + draw(st.integers(1, 300))]
        elif kind == 3:
            data[place:place] = draw(st.binary(min_size=1, max_size=20))
        else:
            number = draw(st.sampled_from([0, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1]))
            data[place:place + 8] = struct.pack("<Q", number)
    return bytes(data)


def _fuzz(count: int, path: Path) -> None:
    names = [set(read_weights(_write(path, whole))) for whole in _WHOLE]
    read = []

    @settings(max_examples=count, derandomize=True, deadline=None, database=None,
              suppress_health_check=list(HealthCheck))
    @given(_damaged())
    def damage(content: bytes) -> None:
        _write(path, content)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        try:
            found = read_weights(path)
        except InputError as error:
            assert str(error).startswith(f"{path}: "), error
            read.append(False)
        else:  # what changed is no more than values that no checksum guards, or names
            assert all(np.isfinite(values).all() for values in found.values())
            assert len(found) <= max(map(len, names))
            read.append(True)
        assert tracemalloc.get_traced_memory()[1] - before < 4 * len(content) + 2**18

    tracemalloc.start()
    try:
        damage()
    finally:
        tracemalloc.stop()
    assert len(read) >= count * 0.9 and sum(read) < len(read) / 2


def test_damaged_files_are_refused_or_read_and_nothing_else(tmp_path):
    _fuzz(80, tmp_path / "net.pth")


@pytest.mark.slow
def test_five_thousand_damaged_files_are_refused_or_read_and_nothing_else(tmp_path):
    _fuzz(5000, tmp_path / "net.pth")

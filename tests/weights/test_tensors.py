"""Files of tensors from strangers: measured before they are unpacked; what is read is finite."""

import io
import math
import pickle
import time
import tracemalloc
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from weights.tensors import read_state, read_tensors

WEIGHT = torch.arange(12.0).reshape(3, 4)


class Stored:
    """A storage as `torch.save` refers to it, whatever is said of it."""

    def __init__(self, *identifier):
        self.identifier = identifier or ("storage", torch.FloatStorage, "0", "cpu", 12)


class Called:
    """A call that the pickle asks for."""

    def __init__(self, function, *arguments):
        self.function = function
        self.arguments = arguments

    def __reduce__(self):
        return self.function, self.arguments


def tensor(shape=(3, 4), stride=(4, 1), offset=0, storage=None):
    """A tensor as a pickle describes it."""
    storage = Stored() if storage is None else storage
    return Called(torch._utils._rebuild_tensor_v2, storage, offset, shape, stride, False, {})


def checkpoint(file, content, elements=WEIGHT, compression=zipfile.ZIP_STORED):
    """A file of `torch.save` with any pickle in it and the elements of one storage."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.identifier if isinstance(value, Stored) else None

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(content)
    pickled = content if isinstance(content, bytes) else buffer.getvalue()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", elements.numpy().tobytes())
    return file


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"_use_new_zipfile_serialization": False},
        {"pickle_protocol": 4},
        {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64])
def test_what_torch_saves_comes_back(tmp_path, options, dtype):
    file = tmp_path / "a.pth"
    saved = {
        "whole": WEIGHT.to(dtype),
        "turned": WEIGHT.to(dtype).T,
        "part": torch.arange(100).to(dtype)[7:70:3],
        "parameter": torch.nn.Parameter(WEIGHT.to(dtype), requires_grad=dtype.is_floating_point),
        "scalar": torch.tensor(3).to(dtype),
        "none": torch.zeros(0, 4).to(dtype),
    }
    torch.save(saved, file, **options)
    found = read_tensors(file)
    assert list(found) == list(saved)
    for name, expected in saved.items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], expected), name


@pytest.mark.parametrize("zipped", [True, False])
def test_a_training_state_comes_back(tmp_path, zipped):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    saved = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rows": [{"loss": 0.5, "epoch": 1}],
        "patch": (16, 16),
        "random": torch.get_rng_state(),
        "ensemble": None,
    }
    torch.save(saved, tmp_path / "state.pt", _use_new_zipfile_serialization=zipped)
    found = read_state(tmp_path / "state.pt")
    assert found["rows"] == saved["rows"]
    assert (found["patch"], found["ensemble"]) == ((16, 16), None)
    assert torch.equal(found["random"], saved["random"])
    other = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    other.load_state_dict(found["model"])
    again = torch.optim.Adam(other.parameters())
    again.load_state_dict(found["optimizer"])
    for (name, ours), theirs in zip(
        model.state_dict().items(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    for ours, theirs in zip(
        *(o.state_dict()["state"].values() for o in (optimizer, again)), strict=True
    ):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


NAN = torch.tensor([1.0, math.nan])
QUANTISED = torch.quantize_per_tensor(WEIGHT, 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"w": torch.zeros(1).expand(2**33)}, "a.pth: w counts elements more than once"),
        ({"w": torch.zeros(9).as_strided((4, 4), (1, 1))}, "w counts elements more than once"),
        ({"w": torch.zeros(9).as_strided((3, 2), (1, 2))}, "w counts elements more than once"),
        ({1: WEIGHT}, "a.pth names a tensor 1, expected a state dict"),
        ({(1, 2): WEIGHT}, "a.pth has keys that are no names"),
        ({"w": WEIGHT.to_sparse()}, "a.pth holds torch._utils._rebuild_sparse_tensor, but dense"),
        ({"w": QUANTISED}, "a.pth holds torch._utils._rebuild_qtensor, but dense"),
        ({"w": WEIGHT.to("meta")}, "a.pth holds torch._utils._rebuild_meta_tensor_no_storage"),
        ({"w": WEIGHT.to(torch.complex64)}, "a.pth holds torch.ComplexFloatStorage, but dense"),
        ({"w": WEIGHT.to(torch.float8_e4m3fn)}, "a.pth holds torch._utils._rebuild_tensor_v3"),
        ({"w": torch.complex(WEIGHT, WEIGHT).conj().imag}, "is to be negated"),
        ({"w": NAN}, "a.pth: w holds NaN, infinity"),
        ({"w": -NAN / 0}, "a.pth: w holds NaN, infinity"),
        ({"w": torch.tensor([1e300], dtype=torch.float64)}, "w holds NaN, infinity or more than"),
        ({"v": WEIGHT, "w": WEIGHT, "x": WEIGHT[:, :0]}, None),
        ({str(i): torch.zeros(10_000) for i in range(2)}, None),
        (dict.fromkeys("abcdefgh", torch.zeros(10_000)), "names share elements"),
        ({"w": {"v": WEIGHT}}, "holds other things than tensors under w;"),
        ([WEIGHT], "holds other things, expected a state dict"),
        (WEIGHT, "holds a tensor, expected a state dict"),
        ({}, "holds nothing, expected a state dict"),
    ],
)
def test_other_tensors_are_refused_by_file_and_name(tmp_path, saved, message):
    file = tmp_path / "a.pth"
    torch.save(saved, file)
    if message is None:
        assert read_tensors(file).keys() == saved.keys()
        return
    with pytest.raises(ValueError, match=message) as caught:
        read_tensors(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


HUGE = ("storage", torch.FloatStorage, "0", "cpu", 2**40)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"w": tensor()}, None),
        ({"w": tensor((4, 4), (4, 1))}, r"w of \(4, 4\) is larger than its 12 elements"),
        ({"w": tensor(offset=1)}, r"w of \(3, 4\) is larger than its 12 elements"),
        ({"w": tensor(offset=-1)}, "w has no size and strides"),
        ({"w": tensor((3, 4), (-4, 1))}, "w has no size and strides"),
        ({"w": tensor((3.0, 4), (4, 1))}, "w has no size and strides"),
        ({"w": tensor((3, 4), (1,))}, "w has no size and strides"),
        ({"w": tensor((1,) * 9, (1,) * 9)}, "w has no size and strides"),
        ({"w": tensor((2**50, 0), (1, 1))}, "w has no size and strides"),
        ({"w": tensor(storage=7)}, "w has no size and strides"),
        ({"w": tensor(storage=Stored(*HUGE))}, "holds a tensor larger than its bytes"),
        ({"w": tensor(storage=Stored(*HUGE[:4], -1))}, "is damaged or not a file of weights"),
        ({"w": tensor(storage=Stored(*HUGE[:2], "../1", "cpu", 12))}, "is damaged"),
        ({"w": Called(bytearray, 2**40)}, "opening it would run code"),
        (pickle.PROTO + b"\x02" + pickle.BYTEARRAY8 + b"\xff" * 5 + b"\0" * 3 + b".", "is damaged"),
        (pickle.PROTO + b"\x02" + b"(" * 10_000, "is damaged"),
        (
            pickle.PROTO + b"\x02N" + b"r" + b"\xff\xff\xff\x7f" + b".",
            "holds other things, expected",
        ),
        ({"w": Called(torch.storage._load_from_bytes, b"")}, "opening it would run code"),
        ({"w": Called(torch.hub.load, "a/b", "c")}, "opening it would run code"),
    ],
)
def test_a_checkpoint_takes_no_more_memory_than_it_has_bytes(tmp_path, content, message):
    file = checkpoint(tmp_path / "a.pth", content)
    tracemalloc.start()
    try:
        if message is None:
            assert torch.equal(read_tensors(file)["w"], WEIGHT)
            return
        with pytest.raises(ValueError, match=message) as caught:
            read_tensors(file)
        assert str(file) in str(caught.value)
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()


def test_compressed_records_are_refused_before_they_are_unpacked(tmp_path):
    zeros = torch.zeros(2**22)
    file = checkpoint(tmp_path / "a.pth", {}, zeros, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"has a compressed record .*archive/data.pkl"):
        read_tensors(file)


def test_records_that_share_their_bytes_are_refused(tmp_path):
    """A central directory may name the same bytes many times."""
    file = checkpoint(tmp_path / "a.pth", {"w": tensor()}, torch.zeros(10_000))
    with zipfile.ZipFile(file, "a") as archive:
        for number in range(1, 50):
            info = archive.getinfo("archive/data/0")
            again = zipfile.ZipInfo(f"archive/data/{number}")
            for name in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(again, name, getattr(info, name))
            archive.filelist.append(again)
        archive._didModify = True
    with pytest.raises(ValueError, match="names more bytes than it has"):
        read_tensors(file)


def test_containers_that_hold_one_another_many_times_take_no_time(tmp_path):
    """A few lines of a pickle can be a billion places, and a key that takes for ever to hash."""
    lists = [0.5]
    for _ in range(14):
        lists = [lists] * 10
    start = time.monotonic()
    file = checkpoint(tmp_path / "a.pt", {"lists": lists})
    found = read_state(file)["lists"]
    assert found[0] is found[9]
    pairs = b")" + b"q\x00h\x00\x86" * 60  # of the pair before, twice
    checkpoint(file, pickle.PROTO + b"\x02}" + pairs + b"Ns.")
    with pytest.raises(ValueError, match="keys that are no names"):
        read_state(file)
    assert time.monotonic() - start < 10


def test_a_container_that_holds_itself_is_refused(tmp_path):
    content = {"a": []}
    content["a"].append(content)
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="is nested deeper than any training state"):
        read_state(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"rows": [{"loss": math.nan}]}, "state.pt: .rows.0.loss is the number nan, expected"),
        ({"model": {"w": NAN}}, "state.pt: .model.w holds NaN"),
        ({"model": {"w": torch.zeros(1).expand(2**33)}}, ".model.w counts elements more than once"),
        ({"skipped": b"bytes"}, "state.pt is refused: opening it would run code"),
        ({"a": WEIGHT.dtype}, "would run code"),
        ({"a": {1, 2}}, "would run code"),
    ],
)
def test_another_state_is_refused_by_its_place(tmp_path, saved, message):
    torch.save(saved, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=message):
        read_state(tmp_path / "state.pt")


def test_a_state_that_is_not_there_is_missed(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"state.pt does not exist"):
        read_state(tmp_path / "state.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_cut_anywhere_or_with_a_changed_byte_it_is_refused_or_sound(tmp_path, zipped):
    file, whole = tmp_path / "a.pth", tmp_path / "whole.pth"
    torch.save({"w": WEIGHT, "v": torch.ones(3)}, whole, _use_new_zipfile_serialization=zipped)
    content = whole.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for place in torch.randint(len(content), (40,), generator=generator).tolist():
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        for damaged in (content[:place], changed):
            file.write_bytes(damaged)
            try:
                tensors = read_tensors(file)
            except ValueError as error:
                assert str(error).startswith(f"{file}")
                assert "\n" not in str(error)
            else:
                assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_safetensors_are_finite_and_of_elements_that_a_model_has(tmp_path):
    file = tmp_path / "a.safetensors"
    for name, saved in {
        "w holds NaN": {"v": WEIGHT, "w": NAN},
        "w is of torch.float8_e4m3fn": {"w": WEIGHT.to(torch.float8_e4m3fn)},
        "w is of torch.complex64": {"w": WEIGHT.to(torch.complex64)},
        "w is of torch.bool": {"w": WEIGHT > 0},
    }.items():
        save_file(saved, file)
        with pytest.raises(ValueError, match=rf"a.safetensors: {name}"):
            read_tensors(file)


def test_a_safetensors_file_of_more_names_than_any_model_is_refused(tmp_path):
    """A tensor of no elements takes a hundred bytes here and a thousand in memory."""
    file = tmp_path / "a.safetensors"
    save_file({f"{number:0100d}": torch.zeros(0) for number in range(15_000)}, file)
    with pytest.raises(ValueError, match=r"a.safetensors is damaged .* its names would take more"):
        read_tensors(file)


def test_a_header_of_several_lines_is_refused_in_one(tmp_path):
    header = b'{"weight": {"dtype": "a\\nb", "shape": [1], "data_offsets": [0, 4]}}'
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(ValueError, match=r"damaged or not a safetensors file: .*a\\nb") as error:
        read_tensors(file)
    assert "\n" not in str(error.value)

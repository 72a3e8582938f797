"""Device and precision: what exists here, and one line where it does not."""

import pytest
import torch

from train.device import autocast, choose_device, choose_precision

CPU = torch.device("cpu")


def test_auto_device_is_the_gpu_where_there_is_one():
    assert choose_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x"])
def test_unknown_device_is_refused(name):
    with pytest.raises(ValueError, match="is unknown; use auto, cpu or cuda"):
        choose_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_refused():
    with pytest.raises(ValueError, match="sees no GPU; use cpu"):
        choose_device("cuda")


@pytest.mark.parametrize(("amx", "precision"), [(True, "bf16"), (False, "fp32")])
def test_cpu_multiplies_in_bf16_only_with_amx(monkeypatch, amx, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx})
    assert choose_precision("auto", CPU) == precision


def test_fp16_needs_a_gpu():
    with pytest.raises(ValueError, match="fp16 needs a GPU; on a CPU use bf16 or fp32"):
        choose_precision("fp16", CPU)


def test_int8_needs_a_cpu():
    assert choose_precision("int8", CPU) == "int8"
    with pytest.raises(ValueError, match="int8 is for inference on a CPU; on a GPU use bf16"):
        choose_precision("int8", torch.device("cuda"))


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("int8", torch.float32), ("fp32", torch.float32), ("bf16", torch.bfloat16)],
)
def test_autocast_computes_in_the_precision(precision, dtype):
    with autocast(CPU, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype

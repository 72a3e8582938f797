"""8-bit integers for inference on a CPU: a quarter of the weights' bytes, several times the speed.

Shapes: B batch, N tokens, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

LEVELS = 127  # of a weight on either side of zero
FULL_RANGE = ("avx512_vnni", "avx_vnni", "amx_int8")  # x86 that sums products in 32 bits
ENGINES = ("onednn", "x86", "fbgemm", "qnnpack")  # PyTorch's, fastest first


class Int8Linear(nn.Module):
    """A linear layer whose weights and inputs are 8-bit integers, and whose output is float32.

    Weights have one scale an output, set once; inputs one scale and offset a call, from the least
    and the largest value of the whole batch, so a clip's scores depend a little on the others. A
    CPU that sums products of 8 bits in 16 gets 7 bits of the inputs, since more would overflow.

    Args:
        linear: float32, on the CPU.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()  # (O, I)
        scale = (weight.abs().amax(dim=1).double() / LEVELS).clamp(min=torch.finfo().tiny)
        zero = torch.zeros(len(weight), dtype=torch.int64)
        integers = torch.quantize_per_channel(weight, scale, zero, axis=0, dtype=torch.qint8)
        with _engine():
            bias = None if linear.bias is None else linear.bias.detach()
            self.packed = torch.ops.quantized.linear_prepack(integers, bias)
        self.reduce_range = not any(map(torch.cpu.get_capabilities().get, FULL_RANGE))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, I) -> (B, N, O)."""
        with _engine():
            return torch.ops.quantized.linear_dynamic(tokens, self.packed, self.reduce_range)


@contextmanager
def _engine() -> Iterator[None]:
    """PyTorch's library of integer kernels, of which weights and products must share one."""
    before, supported = torch.backends.quantized.engine, torch.backends.quantized.supported_engines
    torch.backends.quantized.engine = next(name for name in ENGINES if name in supported)
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


def quantise(model: nn.Module) -> nn.Module:
    """The model with every linear layer in 8-bit integers, for inference on a CPU; in place.

    Patches, norms, attention between tokens and residuals stay float32. There is no way back, no
    gradient, and no saving: keep the folder that the model came from.

    Raises:
        ValueError: the model is not float32 on a CPU.
    """
    for parameter in model.parameters():
        if parameter.device.type != "cpu" or parameter.dtype != torch.float32:
            raise ValueError(
                f"8-bit integers are made of float32 on a CPU, not {parameter.dtype} on "
                f"{parameter.device}; use cpu, or bf16 on a GPU"
            )
    for module in [*model.modules()]:
        for name, layer in [*module.named_children()]:
            if isinstance(layer, nn.Linear):
                setattr(module, name, Int8Linear(layer))
    return model

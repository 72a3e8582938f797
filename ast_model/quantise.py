"""Linear layers in 8-bit integers for inference on a CPU: a quarter of the memory, and faster.

Shapes: B batch, N tokens, I inputs, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

FULL_RANGE = ("avx512_vnni", "avx_vnni", "amx_int8")  # x86 that sums products in 32 bits
ENGINES = ("onednn", "x86", "fbgemm", "qnnpack")  # PyTorch's quantised kernels, fastest first


class Int8Linear(nn.Module):
    """A linear layer whose weights and inputs are 8-bit integers, and whose output is float32.

    Weights have a scale for each output, inputs a scale and an offset for each call: those of the
    smallest and the largest value in the batch, so that a clip's scores depend a little on the
    other clips. Weights have only 7 bits where the CPU adds two products in 16 bits, which those
    of 8 and 8 bits would overflow; inputs of 7 bits would be less exact, since their one scale is
    that of the largest.

    Args:
        linear: float32, on the CPU.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()  # (O, I)
        scale = (weight.abs().amax(dim=1).double() / largest_weight()).clamp(min=torch.finfo().tiny)
        zero = torch.zeros(len(weight), dtype=torch.int64)
        integers = torch.quantize_per_channel(weight, scale, zero, axis=0, dtype=torch.qint8)
        with _engine():
            bias = None if linear.bias is None else linear.bias.detach()
            self.packed = torch.ops.quantized.linear_prepack(integers, bias)
        self.outputs = linear.out_features

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, I) -> (B, N, O); NaN throughout where a token is NaN or infinite.

        The integers would make some finite number of it, so that nobody would know.
        """
        # A norm spreads NaN over all numbers of a token, of which one tells; to read all takes 4 %.
        some = tokens[..., 0] if tokens.dim() > 2 else tokens
        if not some.sum().isfinite():
            return tokens.new_full((*tokens.shape[:-1], self.outputs), math.nan)
        with _engine():
            return torch.ops.quantized.linear_dynamic(tokens, self.packed, reduce_range=False)


def largest_weight() -> int:
    """The integer that the largest weight of an output becomes on this CPU."""
    return 127 if any(map(torch.cpu.get_capabilities().get, FULL_RANGE)) else 63


@contextmanager
def _engine() -> Iterator[None]:
    """Select PyTorch's integer kernels; weights have to be packed and used by the same ones."""
    before, supported = torch.backends.quantized.engine, torch.backends.quantized.supported_engines
    torch.backends.quantized.engine = next(name for name in ENGINES if name in supported)
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


def quantise(model: nn.Module) -> nn.Module:
    """Replace every linear layer of the model by one in 8-bit integers, for inference on a CPU.

    Patch embedding, norms, attention and residuals stay float32. The model is changed in place,
    and can then be neither trained nor saved nor changed back.

    Args:
        model: float32, on the CPU.

    Returns:
        The same model.

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

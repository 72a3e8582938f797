"""Networks as contestants: ours and transformers', for inference and for a training step.

Inputs are filterbanks already, of noise; weights are random: neither changes the speed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ast_model import AST, ASTConfig
from ast_model.quantise import quantise
from train.device import autocast, round_weights
from train.experiments.cost import count_flops

Work = Callable[[], object]
CLASSES = {"base384": 527, "tiny224": 50}
WIDTHS = {  # of transformers' configuration, where it is not its default
    "base384": {},
    "tiny224": {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768},
}


def ours(preset: str, frames: int, device: str, **changes: Any) -> nn.Module:
    config = ASTConfig.preset(preset, num_classes=CLASSES[preset], num_frames=frames, **changes)
    return AST(config).to(device)


def theirs(preset: str, frames: int, device: str, attention: str = "sdpa") -> nn.Module:
    from transformers import ASTConfig as Config
    from transformers import ASTForAudioClassification

    config = Config(num_labels=CLASSES[preset], max_length=frames, **WIDTHS[preset])
    model = ASTForAudioClassification._from_config(config, attn_implementation=attention)
    return model.to(device)


def flops(make: Callable[..., nn.Module], preset: str, frames: int) -> int:
    """Of one clip, forward, as `ours` or `theirs` computes it: the last block of ours does less."""
    with torch.device("meta"):
        model = make(preset, frames, "meta").eval()
        return count_flops(model, torch.zeros(1, frames, 128))


def our_inference(
    preset: str, frames: int, batch: int, device: str, precision: str, compiled: bool = False
) -> Work:
    """As `ast-audio evaluate --precision` computes."""
    model = ours(preset, frames, device).eval()
    if precision == "int8":
        quantise(model)
    round_weights(model, precision)
    if compiled:
        model.compile()
    fbank = torch.randn(batch, frames, 128, device=device)
    torch_device = torch.device(device)

    def work() -> Tensor:
        with autocast(torch_device, precision):
            return model(fbank)

    return torch.no_grad()(work)


def their_inference(
    preset: str,
    frames: int,
    batch: int,
    device: str,
    precision: str,
    attention: str = "sdpa",
    compiled: bool = False,
) -> Work:
    """In bf16 the weights are bf16, which is their fastest and `from_pretrained(dtype=…)`."""
    model = theirs(preset, frames, device, attention).eval()
    fbank = torch.randn(batch, frames, 128, device=device)
    if precision == "bf16":
        model, fbank = model.bfloat16(), fbank.bfloat16()
    if compiled:
        model.compile()
    return torch.inference_mode()(lambda: model(fbank).logits)


def our_training(
    preset: str,
    frames: int,
    batch: int,
    device: str,
    precision: str,
    compiled: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> Work:
    model = ours(preset, frames, device, **(changes or {}))
    return _training(model, preset, frames, batch, device, precision, compiled)


def their_training(
    preset: str,
    frames: int,
    batch: int,
    device: str,
    precision: str,
    compiled: bool = False,
) -> Work:
    model = theirs(preset, frames, device)
    return _training(model, preset, frames, batch, device, precision, compiled)


def _training(
    model: nn.Module,
    preset: str,
    frames: int,
    batch: int,
    device: str,
    precision: str,
    compiled: bool,
) -> Work:
    """One step: forward, loss, backward, AdamW in one kernel (the default of their Trainer)."""
    model.train()
    if compiled:
        model.compile()
    fbank = torch.randn(batch, frames, 128, device=device)
    targets = torch.randint(CLASSES[preset], (batch,), device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    torch_device = torch.device(device)

    def work() -> None:
        optimizer.zero_grad()
        with autocast(torch_device, precision):
            logits = model(fbank)
        logits = logits if isinstance(logits, Tensor) else logits.logits
        F.cross_entropy(logits.float(), targets).backward()
        optimizer.step()

    return work

"""How fast is a step of pretraining? Beside a supervised step of the same encoder and batch.

    python tests/benchmarks/bench_pretraining.py

Patches do not overlap; the last rows of a case are supervised steps on overlapping patches, which
is what fine-tuning on the published stride costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from measuring import Case, Contestant, options, run
from networks import our_training

from ast_model import ASTConfig
from ast_model.pretraining import PretrainingConfig, pretraining_model
from train.device import autocast
from train.recipes.pretraining import MAE

Pair = tuple[int, int]
# name, frames, batch, patch, overlapping stride
CASES = (
    ("10 s", 1024, 8, (16, 16), (10, 10)),
    ("words", 100, 32, (16, 16), (10, 10)),
    ("words", 100, 32, (128, 4), (128, 2)),
)
PRECISIONS = ("fp32", "bf16")


def pretraining(
    method: str, loss: str, frames: int, batch: int, patch: Pair, precision: str, device: str
) -> Callable[[], object]:
    """A step: masks, forward, loss, backward, AdamW."""
    encoder = ASTConfig.preset(
        "tiny224", num_classes=1, num_frames=frames, patch=patch, stride=patch
    )
    clusters = min(encoder.grid) > 1
    config = PretrainingConfig("ssast", encoder, "joint", clusters=clusters)
    if method == "mae":
        names = ("mask_share", "decoder_width", "decoder_depth", "decoder_heads")
        chosen = {name: getattr(MAE, name) for name in names}
        config = replace(config, method="mae", loss="reconstruction", clusters=False, **chosen)
    else:
        config = replace(config, loss=loss)
    model = pretraining_model(config).to(device)
    fbank = torch.randn(batch, frames, 128, device=device)
    seeds = torch.arange(batch, device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    torch_device = torch.device(device)

    def work() -> None:
        optimizer.zero_grad()
        with autocast(torch_device, precision):
            losses = model(fbank, seeds)
        losses.loss.mean().backward()
        optimizer.step()

    return work


def contestants(
    frames: int, batch: int, patch: Pair, stride: Pair, device: str
) -> list[Contestant]:
    found = []
    for precision in PRECISIONS:
        size = {"frames": frames, "batch": batch, "precision": precision, "device": device}
        supervised = f"supervised {precision}"
        layout = {"preset": "tiny224", **size}
        for name, step in ((supervised, patch), (f"{supervised}, overlapping", stride)):
            changes = {"patch": patch, "stride": step}
            found.append(Contestant(name, our_training, {**layout, "changes": changes}))
        for method, loss in (
            ("ssast", "contrastive"),
            ("ssast", "reconstruction"),
            ("ssast", "joint"),
            ("mae", "reconstruction"),
        ):
            name = f"{method}{f', {loss}' if method == 'ssast' else ''}, {precision}"
            given = {"method": method, "loss": loss, "patch": patch, **size}
            found.append(Contestant(name, pretraining, given, (supervised,)))
    return found


def main() -> None:
    arguments = options(__doc__, rounds=3).parse_args()
    cases = [
        Case(
            f"a step of pretraining, tiny, {name}: {frames} frames, {batch} clips, patches {patch}",
            batch,
            contestants(frames, batch, patch, stride, arguments.device),
        )
        for name, frames, batch, patch, stride in CASES
    ]
    run("pretraining", cases, arguments)


if __name__ == "__main__":
    main()

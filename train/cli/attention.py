"""`ast-audio attention`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from train.cli.options import TO_FILE, Device, InferencePrecision, Model, parse, positional
from train.inference import attention


@dataclass(frozen=True)
class AttentionOptions:
    """Draw what a model looks at in a recording over its spectrogram."""

    model: Model
    file: Annotated[Positional[Path], positional("FILE")]
    """Audio file."""
    out: Annotated[Path, TO_FILE]
    """PNG file to write."""
    kind: Literal["rollout", "last"] = "rollout"
    """rollout: attention followed through all layers; last: of the last layer alone."""
    at: float = 0.0
    """Seconds into the recording where the window begins that is looked at."""
    precision: InferencePrecision = "fp32"
    device: Device = "auto"


def run(words: Sequence[str]) -> None:
    options = parse(AttentionOptions, words, "attention")
    result = attention(
        options.model,
        options.file,
        kind=options.kind,
        at=options.at,
        precision=options.precision,
        device=options.device,
        out=options.out,
    )
    print(f"wrote {options.out}: {result.label} {result.probability:.1%}")

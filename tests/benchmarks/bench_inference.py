"""How fast is inference? Ours beside transformers', in every precision, compiled and not.

python tests/benchmarks/bench_inference.py
"""

from __future__ import annotations

import importlib.util

import networks
from measuring import Case, Contestant, options, run
from networks import our_inference, their_inference

CASES = (("base384", 1024, 2), ("base384", 128, 8), ("tiny224", 512, 8))  # preset, frames, batch


def contestants(preset: str, frames: int, batch: int, device: str) -> list[Contestant]:
    size = {"preset": preset, "frames": frames, "batch": batch, "device": device}
    theirs = {
        f"transformers {precision} {attention}{', compiled' * compiled}": {
            **size,
            "precision": precision,
            "attention": attention,
            "compiled": compiled,
        }
        for precision in ("fp32", "bf16")
        for attention, compiled in (("sdpa", False), ("eager", False), ("sdpa", True))
    }
    if not importlib.util.find_spec("transformers"):
        print("transformers is not installed: nothing to compare with")
        theirs = {}
    ours = {
        f"ours {precision}{', compiled' * compiled}": {
            **size,
            "precision": precision,
            "compiled": compiled,
        }
        for precision, compiled in (
            ("fp32", False),
            ("bf16", False),
            *([("int8", False)] if device == "cpu" else []),
            ("fp32", True),
            ("bf16", True),
        )
    }
    found = []
    for name, work in ours.items():
        rivals, flops = _rivals(theirs, work), networks.flops(networks.ours, preset, frames)
        found.append(Contestant(name, our_inference, work, rivals, work["precision"], flops))
    for name, work in theirs.items():
        flops = networks.flops(networks.theirs, preset, frames)
        found.append(Contestant(name, their_inference, work, (), work["precision"], flops))
    return found


def _rivals(theirs: dict[str, dict], ours: dict) -> tuple[str, ...]:
    """Of the same precision, compiled only if ours is; of int8, which they have not, fp32."""
    precision = "fp32" if ours["precision"] == "int8" else ours["precision"]
    return tuple(
        name
        for name, arguments in theirs.items()
        if arguments["precision"] == precision and arguments["compiled"] <= ours["compiled"]
    )


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--frames", type=int, nargs="*", help="cases of these lengths only")
    arguments = parser.parse_args()
    cases = [
        Case(
            f"inference, {preset}, {frames} frames, {batch} clips",
            batch,
            contestants(preset, frames, batch, arguments.device),
        )
        for preset, frames, batch in CASES
        if not arguments.frames or frames in arguments.frames
    ]
    run("inference", cases, arguments)


if __name__ == "__main__":
    main()

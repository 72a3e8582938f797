"""How fast is a training step? Ours beside transformers', and what saves time or memory.

python tests/benchmarks/bench_training.py
"""

from __future__ import annotations

import importlib.util

import networks
from measuring import Case, Contestant, options, run
from networks import our_training, their_training

CASES = (("base384", 512, 2), ("tiny224", 512, 8), ("tiny224", 128, 16))  # preset, frames, batch
BACKWARD = 3  # a step's FLOPs, in those of its forward pass
SAVINGS = {
    "gradient checkpointing": {"gradient_checkpointing": True},
    "patchout 4 rows, 15 columns": {"patchout": (4, 15)},
}


def contestants(preset: str, frames: int, batch: int, device: str) -> list[Contestant]:
    size = {"preset": preset, "frames": frames, "batch": batch, "device": device}
    has_theirs = importlib.util.find_spec("transformers")
    if not has_theirs:
        print("transformers is not installed: nothing to compare with")
    found = []
    for compiled in (False, True):
        for precision in ("fp32", "bf16"):
            step = {**size, "precision": precision, "compiled": compiled}
            name = f"{precision}{', compiled' * compiled}"
            rival = f"transformers {name}"
            work = BACKWARD * networks.flops(networks.ours, preset, frames)
            found.append(Contestant(f"ours {name}", our_training, step, (rival,), precision, work))
            if has_theirs:
                work = BACKWARD * networks.flops(networks.theirs, preset, frames)
                found.append(Contestant(rival, their_training, step, (), precision, work))
    if frames == 512:
        step = {**size, "precision": "fp32"}
        found += [
            Contestant(
                f"ours fp32, {name}", our_training, {**step, "changes": changes}, ("ours fp32",)
            )
            for name, changes in SAVINGS.items()
        ]
    return found


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--frames", type=int, nargs="*", help="cases of these lengths only")
    arguments = parser.parse_args()
    cases = [
        Case(
            f"training step, {preset}, {frames} frames, {batch} clips",
            batch,
            contestants(preset, frames, batch, arguments.device),
        )
        for preset, frames, batch in CASES
        if not arguments.frames or frames in arguments.frames
    ]
    run("training", cases, arguments)


if __name__ == "__main__":
    main()

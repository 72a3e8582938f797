"""What do fewer tokens cost in score, and what do they gain in speed? A curve for one model.

python tests/benchmarks/bench_tokens.py RUN --data FOLDER

The scores are those of `ast-audio evaluate RUN --data FOLDER --split validation --keep-tokens …`.
Speeds are of the network alone: of this model, and of base384 with random weights at 1,024 frames.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from measuring import options, race, write
from networks import ours

from ast_model import AST
from data.cache import ClipCache
from train.device import autocast, round_weights
from train.inference.scoring.evaluate import score
from train.inference.scoring.selection import load_trained, select

SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


def curve(arguments: Namespace) -> Iterator[dict[str, Any]]:
    """A row for each share of the tokens."""
    device = torch.device(arguments.device)
    trained = load_trained(arguments.model, arguments.device, arguments.precision)
    model = trained.classifier.model
    selection = select(trained, arguments.data, fold=arguments.fold, split=arguments.split)
    metric = trained.run.recipe.metric if trained.run else "accuracy"
    own = speeds(model, device, arguments)
    base = ours(arguments.preset, arguments.frames, arguments.device).eval()
    round_weights(base, arguments.precision)
    others = speeds(base, device, arguments)
    for share, speed, other in zip(arguments.shares, own, others, strict=True):
        model.merge_tokens(share)
        scores = score(trained, selection, cache=arguments.cache).scores
        yield {
            "tokens kept": share,
            f"{metric} of {len(selection.clips)} clips": scores[metric],
            "this model, clips/s": speed,
            "times as fast": speed / own[0],
            f"{arguments.preset} at {arguments.frames} frames, clips/s": other,
            f"{arguments.preset}, times as fast": other / others[0],
        }


def speeds(model: AST, device: torch.device, arguments: Namespace) -> list[float]:
    """Clips a second at each share; the fastest rounds, since others use the machine too."""
    size = arguments.batch, model.config.num_frames, model.config.num_mel_bins
    fbank = torch.randn(size, device=device)

    @torch.no_grad()
    def work(share: float) -> None:
        model.merge_tokens(share)
        with autocast(device, arguments.precision):
            model(fbank)

    works: list[Callable[[], None]] = [
        lambda share=share: work(share) for share in arguments.shares
    ]
    return [arguments.batch / min(times) for times in race(works, arguments.rounds, device)]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("model", help="a run folder")
    parser.add_argument("--data", type=Path, required=True, help="its data set")
    parser.add_argument("--fold", type=int, help="to score, of a data set with folds")
    parser.add_argument("--split", help="to score (default: as `ast-audio evaluate`)")
    parser.add_argument("--cache", type=ClipCache, help="folder of decoded clips")
    precisions = ("fp32", "bf16", "fp16")
    parser.add_argument("--precision", default="fp32", choices=precisions, help="(%(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="clips that are timed (%(default)s)")
    parser.add_argument("--preset", default="base384", help="whose speed is shown (%(default)s)")
    parser.add_argument("--frames", type=int, default=1024, help="of the preset (%(default)s)")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="all, then fewer")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for row in curve(arguments):
        print(", ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
        rows.append(row)
    if arguments.out:
        write(arguments.out, "tokens", torch.device(arguments.device), rows=rows)


if __name__ == "__main__":
    main()

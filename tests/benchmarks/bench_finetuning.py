"""How long does an epoch of fine-tuning from files take? Ours beside transformers' Trainer.

    python tests/benchmarks/bench_finetuning.py --data ESC10

One epoch of ESC-10 from its OGG files (44.1 kHz, 5 s): training on four folds, evaluation of the
fifth, and saving. Nothing is kept from an earlier epoch. Ours is `train.train` with its audit,
plots, checkpoints and cache of decoded clips; theirs follows their guide: a data set that decodes,
resamples and calls the feature extractor, and the Trainer. Networks start from random weights.

Once both sides have the same network, frames, batch, precision and augmentation (none); once each
has what it recommends: theirs pads to 1,024 frames, ours takes the length of the clips, which is
what `train.preparation.choose` does.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from bench_files import Features
from measuring import Case, Contestant, options, run
from networks import theirs

import data
from data import Clip, Manifest
from data.cache import ClipCache
from train import RECIPES, train
from train.device import choose_precision
from train.preparation.choose import choose

FOLD = 1
BATCH = 16
TRAINER, RECOMMENDED_TRAINER = "transformers' Trainer", "transformers' Trainer, 1,024 frames"


def our_epoch(
    manifest: Manifest, preset: str, frames: int | None, precision: str
) -> Callable[[], object]:
    """`ast-audio train`; with `frames` None, with what the recipe for own data chooses."""
    recipe = RECIPES["finetune"].given(
        init_from="scratch", preset=preset, precision=precision, epochs=1, batch_size=BATCH
    )
    recipe = recipe.given(patch=(16, 16), stride=(10, 10), pooling="cls", learning_rate=5e-5)
    if frames is None:
        recipe = choose(recipe, manifest.split(FOLD)[0])
    else:
        plain = {"placement": "start", "background_rate": 0.0, "mixup_rate": 0.0}
        plain |= {"frequency_mask": 0, "time_mask": 0, "num_frames": frames}
        recipe = replace(recipe, **plain, from_data=frozenset())

    def work() -> object:
        with tempfile.TemporaryDirectory() as folder:
            run_folder, cache = Path(folder, "run"), ClipCache(Path(folder, "cache"))
            return train(recipe, manifest, run_folder, fold=FOLD, device="cpu", cache=cache)

    return work


class Labelled(Features):
    """The guide's data set, as the Trainer takes it."""

    def __init__(self, clips: Sequence[Clip], frames: int) -> None:
        from transformers import ASTFeatureExtractor

        self.extractor = ASTFeatureExtractor(max_length=frames)
        self.clips = clips

    def __getitem__(self, index: int) -> dict[str, object]:
        (label,) = self.clips[index].targets
        return {"input_values": super().__getitem__(index), "labels": label}


def their_epoch(
    manifest: Manifest, preset: str, frames: int, precision: str
) -> Callable[[], object]:
    """Their Trainer with one evaluation and one checkpoint an epoch, on the CPU."""
    import transformers
    from transformers import PrinterCallback, Trainer, TrainingArguments

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    training, validation = (Labelled(clips, frames) for clips in manifest.split(FOLD))

    def accuracy(predicted: object) -> dict[str, float]:
        return {"accuracy": float(np.mean(predicted[0].argmax(-1) == predicted[1]))}

    def work() -> object:
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                num_train_epochs=1,
                per_device_train_batch_size=BATCH,
                per_device_eval_batch_size=BATCH,
                learning_rate=5e-5,
                bf16=precision == "bf16",
                eval_strategy="epoch",
                save_strategy="epoch",
                use_cpu=True,
                report_to="none",
                disable_tqdm=True,
            )
            model = theirs(preset, frames, "cpu")
            trainer = Trainer(
                model,
                arguments,
                train_dataset=training,
                eval_dataset=validation,
                compute_metrics=accuracy,
            )
            trainer.remove_callback(PrinterCallback)
            return trainer.train()

    return work


def cases(recordings: Path, arguments: argparse.Namespace) -> list[Case]:
    manifest = data.esc50(recordings, "esc10")
    by_class = np.argsort(manifest.clips.targets()[0], kind="stable")
    manifest = replace(manifest, clips=manifest.clips[by_class[:: arguments.every]])
    precision = choose_precision("auto", torch.device("cpu"))
    given = {"manifest": manifest, "preset": arguments.preset, "precision": precision}
    frames, count = arguments.frames, len(manifest.split(FOLD)[0])
    equal = {**given, "frames": frames}
    title = (
        f"an epoch of ESC-10 from files, {arguments.preset}, {precision}, {count} training clips"
    )
    return [
        Case(
            f"{title}: both {frames} frames, batch {BATCH}",
            count,
            [
                Contestant("ours", our_epoch, equal, (TRAINER,), as_program=True),
                Contestant(TRAINER, their_epoch, equal, as_program=False),
            ],
        ),
        Case(
            f"{title}: as each recommends",
            count,
            [
                Contestant(
                    "ours, frames chosen by the clips",
                    our_epoch,
                    {**given, "frames": None},
                    (RECOMMENDED_TRAINER,),
                    as_program=True,
                ),
                Contestant(
                    RECOMMENDED_TRAINER,
                    their_epoch,
                    {**given, "frames": 1024},
                    as_program=False,
                ),
            ],
        ),
    ]


def main() -> None:
    parser = options(__doc__, rounds=1)
    parser.add_argument("--data", type=Path, required=True, help="ESC-10 or ESC-50")
    parser.add_argument("--preset", default="tiny224", help="size of the network (%(default)s)")
    parser.add_argument("--frames", type=int, default=512, help="of both sides (%(default)s)")
    parser.add_argument(
        "--every", type=int, default=1, help="take every N-th of a class (%(default)s)"
    )
    both = {"equal": 0, "recommended": 1}
    parser.add_argument("--case", nargs="+", choices=both, default=both, help="(both)")
    arguments = parser.parse_args()
    wanted = cases(arguments.data, arguments)
    run("finetuning", [wanted[both[name]] for name in arguments.case], arguments)


if __name__ == "__main__":
    main()

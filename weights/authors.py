"""The authors' files: AST (YuanGongND/ast) and its self-supervised variant (YuanGongND/ssast).

A `.pth` is a state dict without a configuration. Width, depth, patch, number of classes and number
of patches follow from the tensors' shapes; stride and input size are inferred from the number of
patches. A pretrained SSAST file holds its input size in two scalars, and its stride is its patch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ast_model import ASTConfig, FrontendConfig
from data.files import naming
from weights.checkpoint import (
    AUDIOSET_CLASSES,
    STATISTICS,
    Checkpoint,
    collect,
    numbered_classes,
)
from weights.names import authors_names
from weights.tensors import read_tensors

logger = logging.getLogger(__name__)

IGNORABLE = r"v\.head(_dist)?\..*|mask_embed|[cg]predlayer\..*|p_input_[ft]dim"
"""ImageNet's heads, which timm left in the backbone, and what only SSAST's pretraining uses."""

SIZES = ("p_input_tdim", "p_input_fdim")  # of a pretrained SSAST: frames and mel bins
USUAL_FRAMES = (128, 512, 1024)  # the recipes of the authors' code
USUAL_BINS = 128
HEAD_WIDTH = 64  # of an attention head, in every DeiT and ViT that the authors start from
STATISTICS_BY_CLASSES = {35: "Speech Commands", 50: "ESC-50", AUDIOSET_CLASSES: "AudioSet"}
SPEECH_COMMANDS = (
    *("backward", "follow", "five", "bed", "zero", "on", "learn", "two", "house", "tree", "dog"),
    *("stop", "seven", "eight", "down", "six", "forward", "cat", "right", "visual", "four", "wow"),
    *("no", "nine", "off", "three", "left", "marvin", "yes", "up", "sheila", "happy", "bird"),
    *("go", "one"),
)
"""The 35 words in the order of the authors' label table, which their checkpoint has."""

Pair = tuple[int, int]


def read_authors(
    file: Path,
    num_classes: int | None = None,
    num_frames: int | None = None,
    stride: Pair | None = None,
    num_mel_bins: int | None = None,
    pooling: str | None = None,
    heads: int | None = None,
) -> Checkpoint:
    """An AST or SSAST `.pth`, with or without the `module.` of DataParallel.

    The 35 classes of their Speech Commands model are named; those of others are numbered.

    Args:
        file: the `.pth`.
        num_classes: this and the others are arguments of `load`. They settle what the file leaves
            open, and are not applied otherwise.

    Raises:
        ValueError: not such a file, a key that is neither used nor known to be of no use, or more
            than one reading; the message names the arguments that decide.
    """
    stored = {name.removeprefix("module."): value for name, value in read_tensors(file).items()}
    _require_backbone(file, stored)
    width, _, *patch = stored["v.patch_embed.proj.weight"].shape
    distilled = "v.dist_token" in stored
    with_head = "mlp_head.1.weight" in stored
    pretext = all(name in stored for name in SIZES)
    classes = len(stored["mlp_head.1.weight"]) if with_head else num_classes
    if classes is None:
        raise ValueError(
            f"{file} has no class head: give --num-classes (num_classes=) for a new one"
        )
    sizes = {
        "heads": _heads(file, width, heads),
        "pooling": pooling or _pooling(file, tuple(patch), pretext),
        **_input(file, stored, tuple(patch), distilled, num_frames, stride, num_mel_bins),
    }
    with naming(file):
        config = ASTConfig(
            num_classes=classes,
            width=width,
            depth=len({name.split(".")[2] for name in stored if name.startswith("v.blocks.")}),
            mlp_ratio=len(stored["v.blocks.0.mlp.fc1.weight"]) / width,
            patch=tuple(patch),
            distilled=distilled,
            **sizes,
        )
    state = collect(stored, config, authors_names, file, with_head, IGNORABLE)
    if not with_head:
        logger.warning(f"{file} has no head: a new one for {classes} classes")
    corpus = STATISTICS_BY_CLASSES.get(classes if with_head else AUDIOSET_CLASSES, "AudioSet")
    logger.warning(
        f"{file}: read as {config.grid[0]} x {config.grid[1]} patches ({config.num_frames} frames, "
        f"{config.num_mel_bins} mel bins, stride {config.stride}); "
        f"normalisation, which the file does not tell: {corpus}'s, unless mean and std are given"
    )
    mean, std = STATISTICS[corpus]
    with naming(file):
        frontend = FrontendConfig(config.num_frames, config.num_mel_bins, "hanning", mean, std)
    is_speech_commands = with_head and classes == len(SPEECH_COMMANDS)
    names = SPEECH_COMMANDS if is_speech_commands else numbered_classes(classes)
    return Checkpoint(config, state, frontend, names, multi_label=classes == AUDIOSET_CLASSES)


def _require_backbone(file: Path, stored: Mapping[str, Tensor]) -> None:
    kernel = stored.get("patch_embed.proj.weight")
    if kernel is not None:
        raise ValueError(
            f"{file} is an image transformer of timm; start from it with "
            "weights.from_timm(config, NAME, file=FILE), or --init-from NAME --init-file FILE"
        )
    kernel = stored.get("v.patch_embed.proj.weight")
    positions = stored.get("v.pos_embed")
    first = stored.get("v.blocks.0.mlp.fc1.weight")
    if kernel is None or positions is None or first is None:
        raise ValueError(
            f"{file} is no AST or SSAST of the authors': it holds "
            f"{', '.join(list(stored)[:5]):.200}, …; of a Hugging Face model give the folder, "
            "with config.json beside the weights"
        )
    sound = kernel.dim() == 4 and kernel.shape[1] == 1 and positions.dim() == 3
    if not sound or 0 in kernel.shape:
        raise ValueError(
            f"{file}: v.patch_embed.proj.weight has shape {tuple(kernel.shape)} and v.pos_embed "
            f"{tuple(positions.shape)}; expected (width, 1, height, width of a patch) and "
            "(1, tokens, width)"
        )
    expected = {"v.blocks.0.mlp.fc1.weight": 2, "mlp_head.1.weight": 2, **dict.fromkeys(SIZES, 0)}
    for name, axes in expected.items():
        if name in stored and (stored[name].dim() != axes or 0 in stored[name].shape):
            raise ValueError(
                f"{file}: {name} has shape {tuple(stored[name].shape)}, expected {axes} axes"
            )


def _heads(file: Path, width: int, heads: int | None) -> int:
    if heads is None and width % HEAD_WIDTH:
        raise ValueError(
            f"{file} has width {width}, from which the number of attention heads does not follow "
            f"({HEAD_WIDTH} numbers each, usually): give heads"
        )
    return heads or width // HEAD_WIDTH


def _pooling(file: Path, patch: Pair, pretext: bool) -> str:
    if pretext:
        return "patches"  # SSAST's default for fine-tuning
    if patch[0] == patch[1]:
        logger.warning(
            f"{file}: read as an AST, whose head takes CLS and DIST; a fine-tuned SSAST looks the "
            'same, but its authors average the patches: for one, give pooling="patches"'
        )
        return "cls"
    raise ValueError(
        f"{file} has patches of {patch[0]} x {patch[1]}, so it is a fine-tuned SSAST, and does not "
        'tell how it pools: give pooling="patches" (their default) or pooling="cls"'
    )


def _input(
    file: Path,
    stored: Mapping[str, Tensor],
    patch: Pair,
    distilled: bool,
    num_frames: int | None,
    stride: Pair | None,
    num_mel_bins: int | None,
) -> dict[str, int | Pair]:
    """Stride, frames and mel bins that the positions were trained for."""
    if all(name in stored for name in SIZES):
        frames, bins = (int(stored[name]) for name in SIZES)
        return {"num_frames": frames, "num_mel_bins": bins, "stride": patch}
    patches = stored["v.pos_embed"].shape[1] - (2 if distilled else 1)
    bins = num_mel_bins or USUAL_BINS
    if num_frames and stride:
        with naming(file):
            asked = ASTConfig(num_frames=num_frames, num_mel_bins=bins, stride=stride, patch=patch)
        if asked.grid[0] * asked.grid[1] == patches:
            return {"num_frames": num_frames, "num_mel_bins": bins, "stride": stride}
    bins = USUAL_BINS
    readings = _readings(patches, patch, bins)
    lengths = [n for n in (*USUAL_FRAMES, num_frames) if n is not None]
    found = [(step, [n for n in lengths if n in frames]) for step, frames in readings]
    usual = [(step, some[0]) for step, some in found if some]
    of_stride = [(step, n) for step, n in usual if step == stride]
    usual = of_stride or usual
    if len(usual) != 1:
        shown = [
            f"stride {step[0]}, {step[1]} with {frames.start} to {frames.stop - 1} frames"
            for step, frames in readings
        ]
        raise ValueError(
            f"{file} has {patches} patches of {patch[0]} x {patch[1]}, which at {bins} mel bins "
            f"can be {' or '.join(shown) or 'no grid':.1000}: give the stride, num_frames (and "
            "num_mel_bins) that it was trained with; a model saved from that can be adapted"
        )
    return {"num_frames": usual[0][1], "num_mel_bins": bins, "stride": usual[0][0]}


def _readings(patches: int, patch: Pair, bins: int) -> list[tuple[Pair, range]]:
    """Strides (square patches: equal on both axes) with the lengths that give `patches`."""
    height, width = patch
    if height > bins:
        return []
    readings = []
    for step in range(1, width + 1):
        stride = (step, step) if height == width else (height, step)
        rows = (bins - height) // stride[0] + 1
        if patches % rows == 0:
            shortest = width + (patches // rows - 1) * step
            readings.append((stride, range(shortest, shortest + step)))
    return readings

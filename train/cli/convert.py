"""`ast-audio convert`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from data.download.unpack import megabytes
from train.cli.options import one_of, parse, positional, unless_given
from train.inference import convert
from train.inference.export import Converted, read_class_names
from weights.checkpoint import Positions
from weights.verify import FEATURES_TOLERANCE, LOGITS_TOLERANCE

Pooling = Literal["cls", "patches"]


@dataclass(frozen=True)
class ConvertOptions:
    """Write any model as a folder in the Hugging Face layout, model card included, or as ONNX.

    The architecture is the source's. Asked for another, positions are refitted and a head of
    another number of classes is made anew, untrained.
    """

    source: Annotated[Positional[str], positional("MODEL")]
    """Run folder (its last epoch is taken), RUN/best, model folder, hub id, AST or SSAST .pth, the
    name of a published one (audioset_10_10_0.4593), or of a DeiT or ViT of timm."""
    destination: Annotated[Positional[Path], positional("DESTINATION")]
    """New folder, or a file name that ends in .onnx, or in .pth for the layout of the authors' code
    (of a pretraining run: the encoder alone)."""
    num_classes: Annotated[int | None, unless_given("the source's", "INT")] = None
    """Classes of a new head; an SSAST .pth and an image model have no head of use, so need it."""
    num_frames: Annotated[int | None, unless_given("the source's", "INT")] = None
    """Length of the input, 10 ms a frame."""
    stride: Annotated[tuple[int, int] | None, unless_given("the source's", "INT INT")] = None
    """Patch stride (frequency, time)."""
    num_mel_bins: Annotated[int | None, unless_given("the source's", "INT")] = None
    """Mel bins of the filterbank."""
    pooling: Annotated[Pooling | None, one_of(Pooling), unless_given("the source's")] = None
    """What the head sees: the mean of CLS and DIST, or of the patch tokens."""
    positions: Annotated[Positions | None, one_of(Positions), unless_given("bilinear")] = None
    """How positions come onto another grid; reinit makes them random."""
    heads: Annotated[int | None, unless_given("width / 64", "INT")] = None
    """Attention heads of a .pth."""
    rgb_kernel: Literal["mean", "sum"] = "mean"
    """One kernel from the three colours of a model of timm: mean (paper) or sum (authors' code)."""
    file: Annotated[Path | None, unless_given("downloaded", "PATH")] = None
    """Weights of the model of timm."""
    classes: Annotated[Path | None, unless_given("the source's", "PATH")] = None
    """Names of the classes: a text with one a line, or a CSV with the columns index and
    display_name, such as AudioSet's class_labels_indices.csv."""
    verify: Annotated[Path | None, unless_given("not compared", "PATH")] = None
    """Audio file: compare the folder's features and logits with those of transformers, which reads
    the source where it can, else the folder."""
    frontend: bool = True
    """The filterbank is part of the ONNX file, so that it takes waveforms."""
    int8: bool = False
    """The ONNX file's linear layers in 8-bit integers: smaller, and faster on a CPU."""
    calibrate: Annotated[tuple[Path, ...], unless_given("none", "FILE|FOLDER…")] = ()
    """With --int8: recordings of the training data, by which the range of the integers is chosen;
    of many, 100 clips spread evenly."""


def run(words: Sequence[str]) -> None:
    options = parse(ConvertOptions, words, "convert")
    converted = convert(
        options.source,
        options.destination,
        num_classes=options.num_classes,
        num_frames=options.num_frames,
        stride=options.stride,
        num_mel_bins=options.num_mel_bins,
        pooling=options.pooling,
        positions=options.positions,
        heads=options.heads,
        rgb_kernel=options.rgb_kernel,
        file=options.file,
        classes=read_class_names(options.classes) if options.classes else None,
        verify_with=options.verify,
        frontend=options.frontend,
        int8=options.int8,
        calibrate=options.calibrate,
    )
    model, classes = converted.classifier.model, converted.classifier.classes
    parameters = sum(tensor.numel() for tensor in model.parameters())
    line = (
        f"wrote {options.destination} ({megabytes(converted.size)}): {parameters:,} parameters, "
        f"{len(classes)} classes, {model.config.num_frames} frames"
    )
    if converted.path.suffix.lower() == ".onnx":
        line += f"; {'waveform' if options.frontend else 'fbank'} in, logits out"
    print(line)
    if (int8 := converted.int8) is not None:
        print(
            f"{int8.layers} linear layers in 8-bit integers; on {int8.clips} calibration clips, "
            f"probabilities within {int8.largest:.4f} of PyTorch's, {int8.mean:.4f} on average, "
            f"and the same top class for {int8.same_top_class}"
        )
    if converted.agreement:
        _report(converted, options)


def _report(converted: Converted, options: ConvertOptions) -> None:
    """The comparison as a table; ValueError where it does not hold."""
    agreement = converted.agreement
    features, logits = agreement.features, agreement.logits
    allowed = f"{FEATURES_TOLERANCE:.0e} absolute"
    if not agreement.same_features:
        missing = " and no ".join(agreement.missing)
        allowed = f"any: transformers has no {missing}; both logits are of ours"
    print(
        f"{options.verify} here and in transformers, which read {converted.reference}\n"
        f"             absolute  relative  allowed\n"
        f"  features   {features.absolute:8.1e}  {features.relative:8.1e}  {allowed}\n"
        f"  logits     {logits.absolute:8.1e}  {logits.relative:8.1e}  "
        f"{LOGITS_TOLERANCE:.0e} relative\n"
        f"  top class  {agreement.top_class}; transformers: {agreement.their_top_class}"
    )
    if not agreement.holds:
        raise ValueError(
            f"{options.destination} was written, but transformers does not agree with it: the "
            f"features differ by {features.absolute:.1e}, the logits by {logits.relative:.1e} of "
            "the largest; do not use it before that is understood"
        )

"""The options of every command of `ast-audio`, and how they are read."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

from data.cache import ClipCache, default_cache_folder
from train.device import require_compiler
from train.recipe import Corpus, Precision, Recipe
from weights.checkpoint import Positions

PROGRAM = "ast-audio"
Split = Literal["train", "validation", "test", "all"]
InferencePrecision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Benchmark = Literal["frontend", "inference", "training", "files", "manifest", "gpu"]
Model = Annotated[Positional[str], arg(metavar="MODEL")]
Models = Annotated[Positional[tuple[str, ...]], arg(metavar="MODEL…")]
Files = Annotated[Positional[tuple[Path, ...]], arg(metavar="FILE|FOLDER…")]


@dataclass(frozen=True)
class Reading:
    """How clips are read, and where the model computes."""

    cache: Path | None = None
    """Folder for decoded clips [default: one in the user's cache folder]."""
    use_cache: bool = True
    """Keep decoded clips on disk, so that each is decoded once."""
    workers: int | None = None
    """Decoding processes [default: none on a CPU, one a core up to 8 beside a GPU]."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda or cuda:N."""

    def clip_cache(self) -> ClipCache | None:
        return ClipCache(self.cache or default_cache_folder()) if self.use_cache else None


@dataclass(frozen=True)
class TrainOptions:
    """Train a recipe; the same command again resumes a run that stopped."""

    data: Path
    """Folder of the data set; a table's file, a hub id of hugging_face."""
    recipe: OmitArgPrefixes[Recipe]
    reading: OmitArgPrefixes[Reading]
    fold: int | None = None
    """Fold held out, of a data set with folds [default: the first]."""
    out: Path | None = None
    """Run folder [default: runs/RECIPE/foldN, or runs/RECIPE where there are no folds]."""
    checkpoint_minutes: float = 10.0
    """Longest time between two checkpoints; there is one after every epoch."""
    compile: bool = False
    """Compile the model first (torch.compile, a C++ compiler): slow to start, then faster."""


@dataclass(frozen=True)
class CrossvalOptions:
    """Train with every fold held out once; the same command again resumes."""

    data: Path
    """Folder of the data set; a table's file, a hub id of hugging_face."""
    recipe: OmitArgPrefixes[Recipe]
    reading: OmitArgPrefixes[Reading]
    folds: tuple[int, ...] = ()
    """Folds to run [default: all]."""
    out: Path | None = None
    """Folder for the runs and the table [default: runs/RECIPE]."""
    compile: bool = False
    """Compile the model first (torch.compile, a C++ compiler): slow to start, then faster."""


@dataclass(frozen=True)
class AblateOptions:
    """Train every row of a table with every fold and seed, and report.

    The same command again goes on where it stopped. Processes and machines that share --out work
    on one table at a time: each run is trained by one of them, and a dead one's run is taken over.
    Fields of the recipe that are given hold for every row, save where the row has its own.
    """

    recipe: OmitArgPrefixes[Recipe]
    reading: OmitArgPrefixes[Reading]
    data: Path | None = None
    """Folder of the data set; a table's file, a hub id of hugging_face. Needed to train."""
    folds: tuple[int, ...] = ()
    """Folds held out, of a data set with folds [default: the first]."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds; each row is trained with each of them."""
    rows: tuple[str, ...] = ()
    """Rows of the table [default: all]."""
    reference: str | None = None
    """Row that the others are compared with [default: the table's]."""
    checkpoint: str | None = None
    """What a row that starts from a checkpoint starts from (table pretraining)."""
    out: Path | None = None
    """Folder of the table [default: runs/ablate/TABLE]: ROW/seedS/foldF, table.md, .csv, .png."""
    compile: bool = False
    """Compile the model first (torch.compile, a C++ compiler): slow to start, then faster."""
    report: bool = False
    """Train nothing: tabulate the finished runs again."""
    cost_batch: int | None = None
    """Clips at a time when speed and memory are measured, once a row [default: 8]; another number
    than last time measures anew."""


@dataclass(frozen=True)
class RunsOptions:
    """List every run below a folder: recipe, data, how far it came, score; or compare two."""

    folder: Positional[Path] = Path("runs")
    """Where to look."""
    diff: tuple[Path, Path] | None = None
    """Two run folders: list the fields in which their recipes differ, instead."""


@dataclass(frozen=True)
class LedgerOptions:
    """A Markdown table of the published results: the command of each, its needs, and our score."""

    runs: Path = Path("runs")
    """Folder with the runs, which are looked through for those of the same recipe."""
    bench: tuple[Path, ...] = ()
    """Measured speeds, as `python -m train.experiments.cost` writes them, for the hours."""
    out: Path | None = None
    """File to write [default: print it]."""


@dataclass(frozen=True)
class BenchOptions:
    """Measure speed and memory beside transformers, torchaudio and kaldi-native-fbank.

    Contestants take turns in one process, so that ratios hold on a busy machine too; the
    repository's own results are in tests/benchmarks/results.
    """

    names: Positional[tuple[Benchmark, ...]] = ("frontend", "inference", "training", "files")
    """Which benchmarks; manifest is the memory of 2,000,000 clips, gpu needs one."""
    data: Path | None = None
    """Folder of ESC-10 or ESC-50, for the benchmark `files`."""
    rounds: int | None = None
    """Rounds that count [default: the benchmark's own]."""
    threads: int = 2
    """Threads of PyTorch on a CPU."""
    compiled: bool = True
    """Compiled contestants too; each takes about a minute to compile."""
    out: Path | None = None
    """Folder for a JSON file a benchmark."""


@dataclass(frozen=True)
class StatsOptions:
    """Mean and standard deviation of what a recipe's network would see, without augmentation.

    Measured in one pass over the log-mel values after they are fitted to the recipe's length,
    padding included, as the published statistics are.
    """

    data: Path
    """Folder of the data set; a table's file, a hub id of hugging_face."""
    recipe: OmitArgPrefixes[Recipe]
    reading: OmitArgPrefixes[Reading]


@dataclass(frozen=True)
class AuditOptions:
    """Look at a data set as `train` does before it starts, without training.

    One line a finding: clips, durations, sample rates, files that are missing or broken, classes
    with few clips or none, clips in two parts, and whether the recipe's mean and std fit.
    """

    data: Path
    """Folder of the data set; a table's file, a hub id of hugging_face."""
    recipe: OmitArgPrefixes[Recipe]
    reading: OmitArgPrefixes[Reading]
    fold: int | None = None
    """Fold held out, of a data set with folds [default: the first]."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Score a trained model on a data set: by default on clips that it was not trained on."""

    model: Model
    """Run folder (its last epoch is taken), RUN/best, model folder, hub id, AST or SSAST .pth, or
    the name of a published one (audioset_10_10_0.4593)."""
    data: Path
    """Folder of the data set; a table's file, a hub id of hugging_face."""
    reading: OmitArgPrefixes[Reading]
    corpus: Corpus | None = None
    """Which data set it is [default: the run's]."""
    fold: int | None = None
    """Fold to score [default: the fold that the run held out]."""
    split: Split | None = None
    """Part to score, or all clips [default: test, where the data set or the run has such a part;
    else what the run held out; without a run, all]."""
    out: Path | None = None
    """Folder for a report: scores.json, per_class.csv, confusion.csv and .png, worst.csv (the most
    confident mistakes), predictions.csv, and predictions.parquet with paths and embeddings for
    Renumics Spotlight (needs pyarrow)."""
    precision: InferencePrecision = "auto"
    """fp32, bf16, fp16 (GPU only) or int8 (CPU only: linear layers in 8-bit integers, several times
    as fast; compare the scores)."""
    compile: bool = False
    """Compile the model first (torch.compile, a C++ compiler): slow to start, then faster."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class EnsembleOptions:
    """Average the probabilities of several models and compare the scores.

    The models need the same classes and nothing else in common: each has its own front end.
    """

    models: Models
    """Run folders, model folders, hub ids or .pth files, two or more."""
    data: Path
    """Folder of the data set; a table's file, a hub id of hugging_face."""
    reading: OmitArgPrefixes[Reading]
    corpus: Corpus | None = None
    """Which data set it is [default: each run's]."""
    fold: int | None = None
    """Fold to score [default: the fold that all runs held out]."""
    split: Split | None = None
    """Part to score, or all clips [default: as for `evaluate`]."""
    out: Path | None = None
    """Folder for predictions.csv, the ensemble's probabilities."""
    precision: Precision = "auto"
    """fp32, bf16 or fp16."""


@dataclass(frozen=True)
class PredictOptions:
    """Name the classes of recordings of any length.

    A recording longer than the model's input is heard in overlapping windows. Its probabilities
    are those of the windows: the highest for a model of several labels a clip, else the mean.
    """

    model: Model
    """Run folder (its last epoch is taken), RUN/best, model folder, hub id, AST or SSAST .pth, or
    the name of a published one (audioset_10_10_0.4593)."""
    files: Files
    """Audio files (WAV, FLAC, OGG, MP3 …, any sample rate and number of channels), and folders,
    which are searched for them."""
    top_k: int = 5
    """Classes a recording, or a window of a timeline; --threshold replaces it."""
    threshold: float | None = None
    """Show the classes that reach this probability, however many."""
    timeline: bool = False
    """Say when: start, end, class and probability for each window, or with --threshold for each
    stretch in which a class is heard."""
    hop: float | None = None
    """Seconds from one window of a long recording to the next [default: half a window]."""
    own_length: bool = False
    """Run clips shorter than the model's input at their own length instead of padded, and say what
    that saves. Faster, but the model may have learnt from the padding: measure the accuracy."""
    out: Path | None = None
    """With --timeline: a folder that gets a CSV (with --json a JSON) and a PNG a recording."""
    csv: Path | None = None
    """Write one CSV file instead of printing a table."""
    json: bool = False
    """Print JSON instead of a table."""
    skip_unreadable: bool = False
    """Leave out files that cannot be read, counted and listed, instead of stopping."""
    batch_size: int = 8
    """Clips or windows that run through the model at a time."""
    precision: InferencePrecision = "auto"
    """fp32, bf16, fp16 (GPU only) or int8 (CPU only: linear layers in 8-bit integers, several times
    as fast; compare the scores of `evaluate`)."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda or cuda:N."""
    compile: bool = False
    """Compile the model first (torch.compile, a C++ compiler): slow to start, then faster."""


@dataclass(frozen=True)
class EmbedOptions:
    """Write vectors that describe recordings: what the model's head sees, or finer.

    A row for each recording, or for each window of one longer than the model's input: its path,
    start and end in seconds, and the vectors. A clip shorter than the model's input has vectors
    of its padding too, at frame and patch level.
    """

    model: Model
    """Run folder (its last epoch is taken), RUN/best, model folder, hub id, AST or SSAST .pth, or
    the name of a published one (audioset_10_10_0.4593)."""
    files: Files
    """Audio files, and folders, which are searched for them."""
    out: Path
    """File to write: .npz (arrays paths, starts, ends, vectors) or .parquet (columns path, start,
    end, vector; needs pyarrow; written batch by batch, so of any size)."""
    level: Literal["clip", "frame", "patch"] = "clip"
    """clip: (width,); frame: (time, width), means over frequency; patch: (frequency, time,
    width)."""
    hop: float | None = None
    """Seconds from one window of a long recording to the next [default: a window]."""
    skip_unreadable: bool = False
    """Leave out files that cannot be read, counted and listed, instead of stopping."""
    batch_size: int = 8
    """Windows that run through the model at a time."""
    precision: Precision = "auto"
    """fp32, bf16 or fp16 (GPU only)."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda or cuda:N."""


@dataclass(frozen=True)
class AttentionOptions:
    """Draw what a model looks at in a recording over its spectrogram."""

    model: Model
    """Run folder (its last epoch is taken), RUN/best, model folder, hub id, AST or SSAST .pth, or
    the name of a published one (audioset_10_10_0.4593)."""
    file: Positional[Path]
    """Audio file."""
    out: Path
    """PNG file to write."""
    kind: Literal["rollout", "last"] = "rollout"
    """rollout: attention followed through all layers; last: of the last layer alone."""
    at: float = 0.0
    """Seconds into the recording where the window begins that is looked at."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda or cuda:N."""


@dataclass(frozen=True)
class ConvertOptions:
    """Write any model as a folder in the Hugging Face layout, model card included, or as ONNX.

    The architecture is the source's. Asked for another, positions are refitted and a head of
    another number of classes is made anew, untrained.
    """

    source: Positional[str]
    """Run folder (its last epoch is taken), RUN/best, model folder, hub id, AST or SSAST .pth, the
    name of a published one (audioset_10_10_0.4593), or of a DeiT or ViT of timm."""
    destination: Positional[Path]
    """New folder, or a file name that ends in .onnx."""
    num_classes: int | None = None
    """Classes of a new head; an SSAST .pth and an image model have no head of use, so need it."""
    num_frames: int | None = None
    """Length of the input, 10 ms a frame."""
    stride: tuple[int, int] | None = None
    """Patch stride (frequency, time)."""
    num_mel_bins: int | None = None
    """Mel bins of the filterbank."""
    pooling: Literal["cls", "patches"] | None = None
    """What the head sees: the mean of CLS and DIST, or of the patch tokens."""
    positions: Positions | None = None
    """How positions come onto another grid; reinit makes them random [default: bilinear]."""
    heads: int | None = None
    """Attention heads of a .pth [default: width / 64]."""
    rgb_kernel: Literal["mean", "sum"] = "mean"
    """One kernel from the three colours of a model of timm: mean (paper) or sum (authors' code)."""
    file: Path | None = None
    """Weights of the model of timm, instead of a download."""
    classes: Path | None = None
    """Names of the classes: a text with one a line, or a CSV with the columns index and
    display_name, such as AudioSet's class_labels_indices.csv."""
    verify: Path | None = None
    """Audio file: compare the folder's features and logits with those of transformers, which reads
    the source where it can, else the folder."""
    frontend: bool = True
    """The filterbank is part of the ONNX file, so that it takes waveforms."""


@dataclass(frozen=True)
class DownloadOptions:
    """Fetch a data set; an interrupted download goes on where it stopped."""

    corpus: Positional[Literal["esc50", "speech_commands"]]
    """Which data set."""
    folder: Positional[Path]
    """Where the data set shall lie."""
    version: Literal["v1", "v2"] = "v2"
    """Of Speech Commands: v2 (35 words) or v1 (30 words)."""


@dataclass(frozen=True)
class PrepareOptions:
    """Decode and resample a data set once, to mono FLAC, so that every later pass is fast.

    The folder keeps its layout and tables, and is used in the place of the original. An
    interrupted run goes on where it stopped.
    """

    folder: Positional[Path]
    """The data set."""
    destination: Positional[Path]
    """New folder, not within the data set."""
    sample_rate: int = 16_000
    """Hz."""
    processes: int | None = None
    """How many decode at once [default: one a core]."""


def parse(kind: Callable[..., Any], words: Sequence[str], command: str, default: Any = None) -> Any:
    """tyro's parser, its boxed complaint folded into one line.

    Args:
        kind: a dataclass whose fields are the options.
        default: an instance that gives the options' defaults.

    Raises:
        ValueError: the words do not fit, or --compile has no compiler; exit with 0 after `--help`.
    """
    complaint = io.StringIO()
    known = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(complaint):
            options = tyro.cli(kind, args=words, prog=f"{PROGRAM} {command}", **known)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(_folded(complaint.getvalue())) from None
    if getattr(options, "compile", False):
        require_compiler(getattr(options, "precision", "auto"))
    return options


def _folded(box: str) -> str:
    """The words inside the frame that tyro draws around an error, a rule in it as a semicolon."""
    lines = (line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:-1])
    text = " ".join(";" if set(line) == {"─"} else line for line in lines if line)
    return re.sub(r"\s+;", ";", text)

"""Compare what this package and transformers compute with one model folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ast_model import ASTConfig
from weights.folder import (
    PREPROCESSOR,
    THEIR_RATE,
    unknown_to_extractor,
    unknown_to_transformers,
)
from weights.loading import load

# Measured on 500 recordings: 5.6e-4, in bins near the floor of the log.
FEATURES_TOLERANCE = 1e-3  # of normalised log-mel values
# Measured on models with random weights: 1e-6 where both have one eps in all norms, 5e-6 where the
# head's norm has another, which transformers cannot have.
LOGITS_TOLERANCE = 1e-4  # of the largest logit


@dataclass(frozen=True)
class Difference:
    """The largest absolute difference, and its ratio to transformers' largest value."""

    absolute: float
    relative: float


@dataclass(frozen=True)
class Agreement:
    """What `verify` found.

    With a window, mel edges or a rate that transformers' extractor lacks, the features have to
    differ. Both sides then get our features, and only the logits are held to a tolerance.
    """

    missing: tuple[str, ...]  # of the front end, in transformers' extractor
    features: Difference  # normalised log-mel values
    logits: Difference
    top_class: str
    their_top_class: str  # by the names in the folder that they read

    @property
    def same_features(self) -> bool:
        """Whether transformers has all of the front end, so that the features should agree."""
        return not self.missing

    @property
    def holds(self) -> bool:
        """Whether logits, and features where they can be, are within tolerance; NaN never is."""
        features = self.features.absolute <= FEATURES_TOLERANCE or not self.same_features
        return features and self.logits.relative <= LOGITS_TOLERANCE


@torch.no_grad()
def verify(folder: str | Path, waveform: Tensor, reference: str | Path | None = None) -> Agreement:
    """Run one waveform through a model folder here and in transformers, both in float32 on the CPU.

    Args:
        folder: a model folder.
        waveform: (samples,) mono at the model's sample rate, as `data.load_audio` gives; of a model
            that pads with silence, a short one is padded with zeros first, on both sides.
        reference: the folder that transformers reads, such as the one that `folder` was converted
            from; None for `folder` itself. Where it has no preprocessor_config.json, their feature
            extractor is read from `folder`.

    Returns:
        The differences of features and logits, and both top classes.

    Raises:
        FileNotFoundError: `folder` is no model folder.
        ValueError: transformers is missing, cannot be this model or cannot read `reference`; or
            its features or logits have another shape.
    """
    folder = Path(folder)
    reference = folder if reference is None else Path(reference)
    classifier = load(folder)
    if classifier.frontend.config.padding == "silence":  # their extractor pads with zeros only
        waveform = pad(waveform, (0, max(0, classifier.window_size - len(waveform))))
    transformers = require_transformers(classifier.model.config)
    features = classifier.frontend(waveform[None])
    with _their_side(transformers, reference):
        model = _their_model(transformers, reference)
        source = reference if (reference / PREPROCESSOR).is_file() else folder
        extractor = transformers.ASTFeatureExtractor.from_pretrained(source, local_files_only=True)
        rate = classifier.frontend.config.sample_rate
        extracted = extractor(waveform.numpy(), sampling_rate=rate, return_tensors="pt")
        their_features = extracted.input_values
        missing = unknown_to_extractor(classifier.frontend.config)
        if rate != THEIR_RATE and not transformers.utils.is_speech_available():
            missing.append(f"rate of {rate} Hz without torchaudio")
        their_logits = model(features if missing else their_features).logits
        their_top_class = model.config.id2label[int(their_logits.argmax())]
    logits = classifier.model(features)
    return Agreement(
        tuple(missing),
        _difference("features", features, their_features),
        _difference("logits", logits, their_logits),
        classifier.classes[int(logits.argmax())],
        str(their_top_class),
    )


def require_transformers(config: ASTConfig) -> ModuleType:
    """The package transformers.

    Raises:
        ValueError: it is not installed, or its AST cannot have this `config`.
    """
    if unknown := unknown_to_transformers(config):
        raise ValueError(
            f"a model that has {' and '.join(unknown)} cannot be compared with transformers, whose "
            "AST has square patches, a DIST token and pooling cls; convert it without the "
            "comparison"
        )
    try:
        import transformers
        from transformers import ASTFeatureExtractor, ASTForAudioClassification  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "the comparison needs the package transformers, which cannot be imported; "
            "run: pip install 'ast-audio[hf]'"
        ) from error
    return transformers


def _their_model(transformers: ModuleType, folder: Path) -> Any:
    model, report = transformers.ASTForAudioClassification.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="sdpa",
        local_files_only=True,
        output_loading_info=True,
    )
    for problem, keys in report.items():
        if keys:  # transformers itself would go on, with random weights
            raise ValueError(f"{problem}: {', '.join(sorted(map(str, keys))[:3])}")
    return model.eval()


def _difference(name: str, ours: Tensor, theirs: Tensor) -> Difference:
    if ours.shape != theirs.shape:
        raise ValueError(
            f"the {name} have the shape {tuple(ours.shape)} here and {tuple(theirs.shape)} in "
            "transformers; compare with the model that the folder was converted from"
        )
    absolute, largest = (ours - theirs).abs().max(), theirs.abs().max()
    return Difference(absolute.item(), (absolute / largest.clamp(min=1e-30)).item())


@contextmanager
def _their_side(transformers: ModuleType, folder: Path) -> Iterator[None]:
    """Hide transformers' progress bars and warnings, and raise its errors as one line."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except Exception as error:  # of any kind
        raise ValueError(
            f"transformers cannot run {folder} ({' '.join(str(error).split())}); "
            "give the folder of an ASTForAudioClassification"
        ) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

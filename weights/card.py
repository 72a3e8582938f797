"""The model card: the README.md that the Hugging Face hub shows for a model folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any

from ast_model import ASTConfig, AudioClassifier
from ast_model.baseline import Baseline
from ast_model.config import PRESETS
from weights.fetch import HUB_ID
from weights.folder import (
    BASELINE_TYPE,
    MODEL_TYPE,
    THEIR_RATE,
    runs_in_transformers,
    unknown_to_extractor,
    unknown_to_transformers,
)

SECONDS_PER_FRAME = 0.01
SHOWN_CLASSES = 10

INTRODUCTION = """\
An Audio Spectrogram Transformer (AST; Gong, Chung and Glass, Interspeech 2021, arXiv 2104.01778):
a transformer that classifies sounds from patches of their log-mel spectrogram."""

UNTRAINED = ("untrained",)  # the class of an encoder's head, which no pretraining trains
PRETRAINED_INTRODUCTION = """\
The encoder of an Audio Spectrogram Transformer (AST; Gong, Chung and Glass, Interspeech 2021, arXiv
2104.01778), pretrained without labels. Its head is not trained and knows no classes: it has to be
fine-tuned before it classifies sounds."""

BASELINE_INTRODUCTION = """\
An image model of timm, {name}, that classifies sounds from their log-mel spectrogram: a baseline
for the Audio Spectrogram Transformer."""

OUR_USE = """\
`FOLDER` is the folder of this file. With the package `ast-audio`:

```python
from ast_model import AudioClassifier
classifier = AudioClassifier.from_pretrained("FOLDER")
classifier.classify("clip.wav", top_k=5)  # [(class, probability), ...]
```"""

PRETRAINED_USE = """\
`FOLDER` is the folder of this file. With the package `ast-audio`, fine-tuning starts from it:
`ast-audio train RECIPE --data DATA --init-from FOLDER`. As it is, it gives vectors:

```python
from ast_model import AudioClassifier
classifier = AudioClassifier.from_pretrained("FOLDER")
classifier.embed("clip.wav")  # ({width},)
```"""

THEIR_USE = """\
With `transformers`, of a `waveform` that is mono, {rate} Hz, float32 in [-1, 1]:

```python
from transformers import ASTFeatureExtractor, ASTForAudioClassification
extractor = ASTFeatureExtractor.from_pretrained("FOLDER")
model = ASTForAudioClassification.from_pretrained("FOLDER").eval()
logits = model(**extractor(waveform, sampling_rate={rate}, return_tensors="pt")).logits
```"""

THEIR_USE_PADDED = """\
A `waveform` shorter than {samples} samples has to be padded with zeros to that length first: this
model was trained with silence around short clips, and `ASTFeatureExtractor` pads the spectrogram
with another value."""

THEIR_USE_WITH_TORCHAUDIO = """\
This needs `torchaudio` beside `transformers`: without it, `ASTFeatureExtractor` takes windows for
16000 Hz only."""

THEIR_USE_WITH_OUR_FRONTEND = """\
With `transformers`, the filterbank has to come from `ast-audio`: `ASTFeatureExtractor` has no
{missing}, which this model was trained with, so that its features differ.
Of a `waveform` that is mono, {rate} Hz, float32 in [-1, 1]:

```python
from transformers import ASTForAudioClassification
model = ASTForAudioClassification.from_pretrained("FOLDER").eval()
logits = model(classifier.frontend(waveform[None])).logits
```"""

NO_USE_OF_THEIRS = """\
`transformers` cannot run this model, which has {unknown}: its AST has square patches, CLS and DIST
tokens, and the head behind both."""


@dataclass(frozen=True)
class Score:
    """What was measured, and on what.

    Args:
        metrics: finite values by name, such as {"accuracy": 0.95}.
        data: name of the data set.
        split: of the data set, such as "fold 1 (validation split)".
        clips: how many clips were scored, if that is known.
        remark: a sentence on what the figures are of.
    """

    metrics: Mapping[str, float]
    data: str
    split: str
    clips: int | None = None
    remark: str = ""


def model_card(
    classifier: AudioClassifier,
    name: str,
    origin: str | None = None,
    requests: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    score: Score | None = None,
) -> str:
    """The card in Markdown, with YAML front matter for the hub.

    It says nothing about what is not given. Local paths are cut to the file name.

    Args:
        classifier: the model.
        name: of the model; may hold any characters, like all names here.
        origin: hub id, published name or path of the model that it was converted from.
        requests: arguments of `weights.load` that the conversion was asked for.
        recipe: every field of the training recipe, in JSON types; the text names `corpus` and
            `init_from` if they are among them.
        score: of exactly this model.
    """
    introduction = INTRODUCTION
    if isinstance(classifier.model, Baseline):
        introduction = BASELINE_INTRODUCTION.format(name=_text(classifier.model.config.name))
    elif classifier.classes == UNTRAINED:
        introduction = PRETRAINED_INTRODUCTION
    parts = [
        _front_matter(classifier, name, score),
        f"# {_text(name)}",
        introduction,
        _architecture(classifier),
        "## How it was made",
        *_conversion(origin, requests),
        *_training(recipe),
        "## Score",
        *_measurement(score),
        "## Use",
        *_use(classifier),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(classifier: AudioClassifier, name: str, score: Score | None) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    theirs = runs_in_transformers(classifier.model.config)
    untrained = classifier.classes == UNTRAINED
    results = [
        EvalResult(
            task_type="audio-classification",
            dataset_type=_line(score.data),
            dataset_name=_line(score.data),
            dataset_split=_line(score.split),
            metric_type=_line(metric),
            metric_value=round(value, 6),
        )
        for metric, value in (score.metrics.items() if score else ())
    ]
    header = ModelCardData(
        library_name="transformers" if theirs else "ast-audio",
        pipeline_tag="feature-extraction" if untrained else "audio-classification",
        tags=[BASELINE_TYPE if isinstance(classifier.model, Baseline) else MODEL_TYPE],
        model_name=_line(name) if results else None,
        eval_results=results or None,
    )
    return f"---\n{header}\n---"


def _architecture(classifier: AudioClassifier) -> str:
    config, frontend = classifier.model.config, classifier.frontend.config
    facts = {
        "parameters": f"{sum(tensor.numel() for tensor in classifier.model.parameters()):,}",
        **({} if isinstance(classifier.model, Baseline) else _patches(config)),
        "frames": f"{config.num_frames} = {config.num_frames * SECONDS_PER_FRAME:.2f} s",
        "sample rate": f"{frontend.sample_rate} Hz",
        "mel bins": config.num_mel_bins,
        "mel edges": "{:g}, {:g} Hz".format(*frontend.band),
        "window": frontend.window,
        "after short clips": "silence" if frontend.padding == "silence" else "zeros (log-mel)",
        "mean, std": f"{frontend.mean}, {frontend.std}",
        "classes": _classes(classifier),
    }
    return _table("property", facts)


def _classes(classifier: AudioClassifier) -> str:
    if classifier.classes == UNTRAINED:
        return "none: the head is not trained"
    kind = "several a clip" if classifier.multi_label else "one a clip"
    classes = "; ".join(classifier.classes[:SHOWN_CLASSES])
    more = "; …" if len(classifier.classes) > SHOWN_CLASSES else ""
    return f"{len(classifier.classes)}, {kind}: {classes}{more}"


def _patches(config: ASTConfig) -> dict[str, str]:
    tokens = "CLS and DIST tokens" if config.distilled else "CLS token"
    return {
        "size": _size(config),
        "patch (frequency x time)": "{} x {}".format(*config.patch),
        "stride (frequency x time)": "{} x {}".format(*config.stride),
        "patches (frequency x time)": "{} x {}".format(*config.grid),
        "head on": "mean of the patch tokens" if config.pooling == "patches" else tokens,
    }


def _size(config: ASTConfig) -> str:
    shape = f"width {config.width}, {config.depth} blocks of {config.heads} heads"
    for name in PRESETS:
        preset = ASTConfig.preset(name)
        if all(getattr(preset, n) == getattr(config, n) for n in ("width", "depth", "heads")):
            return f"{name.rstrip('0123456789')} ({shape})"
    return shape


def _conversion(origin: str | None, requests: Mapping[str, Any] | None) -> list[str]:
    text = [] if origin is None else [f"Converted from {_text(_published(origin))}."]
    if requests:
        asked = ", ".join(f"{_text(name)} {_text(value)}" for name, value in requests.items())
        text.append(
            f"Asked for at the conversion: {asked}. Where the original had another, positions were "
            "refitted or the class head made anew, without training."
        )
    return text


def _training(recipe: Mapping[str, Any] | None) -> list[str]:
    if recipe is None:
        return ["How it was trained is not recorded."]
    text = []
    if "corpus" in recipe and "init_from" in recipe:
        start = _text(_published(recipe["init_from"]))
        text.append(f"Trained on {_text(recipe['corpus'])}, starting from {start}.")
    block = json.dumps(_published(recipe), indent=2)
    return [*text, f"The complete recipe:\n\n```json\n{block}\n```"]


def _measurement(score: Score | None) -> list[str]:
    if score is None:
        return ["No score is recorded."]
    clips = "" if score.clips is None else f", {score.clips:,} clips"
    measured = f"Measured on {_text(score.data)}, {_text(score.split)}{clips}."
    figures = {name: f"{value:.4f}" for name, value in score.metrics.items()}
    return [f"{measured} {_text(score.remark)}".rstrip(), _table("metric", figures)]


def _use(classifier: AudioClassifier) -> list[str]:
    if classifier.classes == UNTRAINED:
        return [PRETRAINED_USE.format(width=classifier.model.config.width)]
    frontend = classifier.frontend.config
    unknown, missing = (
        unknown_to_transformers(classifier.model.config),
        unknown_to_extractor(frontend),
    )
    theirs = [THEIR_USE]
    if unknown:
        theirs = [NO_USE_OF_THEIRS]
    elif missing:
        theirs = [THEIR_USE_WITH_OUR_FRONTEND]
    else:
        theirs += [THEIR_USE_WITH_TORCHAUDIO] if frontend.sample_rate != THEIR_RATE else []
        theirs += [THEIR_USE_PADDED] if frontend.padding == "silence" else []
    known = {
        "rate": frontend.sample_rate,
        "samples": classifier.window_size,
        "missing": " and no ".join(missing),
        "unknown": " and ".join(unknown),
    }
    return [text.format(**known) for text in (OUR_USE, *theirs)]


def _table(title: str, rows: Mapping[str, Any]) -> str:
    lines = [f"| {title} | value |", "| --- | --- |"]
    lines += [f"| {_text(name)} | {_text(value)} |" for name, value in rows.items()]
    return "\n".join(lines)


def _published(value: Any) -> Any:
    """The value without the folders of local paths; a hub id is no path."""
    if isinstance(value, Mapping):
        return {name: _published(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_published(item) for item in value]
    if not isinstance(value, str) or HUB_ID.fullmatch(value):
        return value
    return PureWindowsPath(value).name if {"/", "\\"} & set(value) else value


def _line(value: Any) -> str:
    """On one line, without unprintable characters, which break Markdown."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())


def _text(value: Any) -> str:
    """Markdown that shows exactly this."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|~#&$!" else c for c in _line(value))

"""A saved model: a folder in the Hugging Face layout, which transformers' AST loads too.

config.json              the architecture and the class names
preprocessor_config.json the front end
model.safetensors        the weights under the Hub's key names (or pytorch_model.bin, from others)
README.md                the model card, where one was given

Settings that transformers does not have stand in extra keys, which it ignores.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import save as to_bytes
from torch import Tensor

from ast_model import ASTConfig, AudioClassifier, Frontend, FrontendConfig
from ast_model.baseline import Baseline, BaselineConfig, without_memory
from data.files import atomic_folder, is_one_line, json_field, naming, read_json, write_json
from weights.checkpoint import AUDIOSET_CLASSES, STATISTICS, Checkpoint, collect, distinct
from weights.names import HUB_PREFIX, hub_names
from weights.tensors import read_tensors

logger = logging.getLogger(__name__)

CONFIG, PREPROCESSOR, CARD = "config.json", "preprocessor_config.json", "README.md"
WEIGHTS, PICKLED_WEIGHTS = "model.safetensors", "pytorch_model.bin"
MODEL_TYPE, BASELINE_TYPE = "audio-spectrogram-transformer", "timm-image-model"
MODEL_FILES = frozenset({CONFIG, PREPROCESSOR, CARD, WEIGHTS})  # that `save` writes
EPOCH = "epoch"  # in config.json, of a training run's model
MULTI_LABEL = "multi_label_classification"
THEIR_WINDOW = "hanning"  # the only one of transformers' ASTFeatureExtractor
THEIR_LOW_FREQ = 20.0  # Hz; its band ends at the Nyquist frequency
THEIR_RATE = 16_000  # Hz, the only one that it has without torchaudio

HUB_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "layer_norm_eps": 1e-12,
    "patch_size": 16,
    "qkv_bias": True,
    "frequency_stride": 10,
    "time_stride": 10,
    "max_length": 1024,
    "num_mel_bins": 128,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
}
"""transformers' default for a key that config.json leaves out."""

HUB_FIELDS = {
    "num_frames": "max_length",
    "num_mel_bins": "num_mel_bins",
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "dropout": "hidden_dropout_prob",
    "layer_norm_eps": "layer_norm_eps",
}
"""Fields of `ASTConfig`, and what transformers calls them."""

EXTRA_FIELDS = ("patch", "stride", "distilled", "pooling", "head_layer_norm_eps", "drop_path")
PREPROCESSOR_FIELDS = {
    "num_frames": "max_length",
    "num_mel_bins": "num_mel_bins",
    "sample_rate": "sampling_rate",
}
PREPROCESSOR_EXTRA = ("window", "padding", "padded_share", "low_freq", "high_freq")
BASELINE_FIELDS = {"name": str, "num_classes": int, "num_frames": int, "num_mel_bins": int}


def save(folder: str | Path, classifier: AudioClassifier, card: str | None = None) -> None:
    """Write a model folder, whole or not at all.

    `transformers.ASTForAudioClassification.from_pretrained(folder)` and `ASTFeatureExtractor`
    read it where `runs_in_transformers` holds; what they cannot do with it is logged as a warning.

    Args:
        folder: a new or empty folder, or one that holds an older model, which is replaced.
        classifier: what is saved; it stays as it is.
        card: Markdown for the Hub's model card; `weights.model_card` makes one. None: that of
            the older model stays.

    Raises:
        ValueError: the folder holds something else than a model; it is as it was.
        OSError: the disk is full or the folder cannot be written; nothing is left half-written.
    """
    write_folder(folder, classifier, card)
    if limit := limit_in_transformers(classifier):
        logger.warning(f"{folder}: {limit}")


def write_folder(
    folder: str | Path,
    classifier: AudioClassifier,
    card: str | None = None,
    epoch: int | None = None,
) -> None:
    """`save` without a word on transformers, for a training run, which saves after every epoch.

    Args:
        folder, classifier, card: as in `save`.
        epoch: of the training run, 1 for the first; `read_epoch` gives it.
    """
    folder = Path(folder).resolve()  # a link goes on pointing to it
    require_replaceable(folder)
    model = classifier.model
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    if isinstance(model, Baseline):
        content, tensors = {"model_type": BASELINE_TYPE, **asdict(model.config)}, state
    else:
        content, tensors = _hub_config(model.config), _to_hub(state)
    with atomic_folder(folder) as temporary:
        trained = {} if epoch is None else {EPOCH: epoch}
        write_json(temporary / CONFIG, {**content, **_labels(classifier), **trained})
        write_json(temporary / PREPROCESSOR, _hub_preprocessor(classifier.frontend.config))
        # through memory, so that a full disk is a plain OSError
        (temporary / WEIGHTS).write_bytes(to_bytes(tensors, metadata={"format": "pt"}))
        if card is not None:
            (temporary / CARD).write_text(card, encoding="utf-8")
        elif (folder / CARD).is_file():
            shutil.copy2(folder / CARD, temporary)


def require_replaceable(folder: Path) -> None:
    """ValueError unless the folder is new, empty, or holds a model and nothing else."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; give a folder to save the model in")
    names = {path.name for path in folder.iterdir()}
    if not names:
        return
    others = sorted(names - MODEL_FILES) or sorted(names)[: not _holds_model(folder)]
    if others:
        raise ValueError(
            f"{folder} holds something else than a model ({', '.join(others[:3])}), which would "
            "be lost; give a new folder"
        )


def _holds_model(folder: Path) -> bool:
    try:
        return read_json(folder / CONFIG).get("model_type") in (MODEL_TYPE, BASELINE_TYPE)
    except (OSError, ValueError):
        return False


def read_folder(folder: Path) -> Checkpoint:
    """A folder that `save` or transformers' `save_pretrained` wrote.

    Without preprocessor_config.json the front end is taken to be AudioSet's. An `ASTModel` has no
    head. 527 classes are AudioSet's and multi-label, unless `problem_type` says otherwise.

    Raises:
        FileNotFoundError: config.json or the weights are missing.
        ValueError: a file is damaged or the folder is of another model, or the weights do not
            match the configuration exactly, by name and shape.
    """
    hub = _read_hub_config(folder)
    file = next((folder / n for n in (WEIGHTS, PICKLED_WEIGHTS) if (folder / n).is_file()), None)
    if file is None:
        raise FileNotFoundError(
            f"{folder} is not a model folder: {WEIGHTS} is missing, and {PICKLED_WEIGHTS} too"
        )
    config, classes = _config_from_hub(hub, folder / CONFIG), _classes(hub, folder / CONFIG)
    frontend = _read_frontend(folder / PREPROCESSOR, config)
    for name in ("num_frames", "num_mel_bins"):
        if getattr(frontend, name) != getattr(config, name):
            logger.warning(
                f"{folder / PREPROCESSOR} has {name} {getattr(frontend, name)}, the model takes "
                f"{getattr(config, name)}: the model's is used"
            )
    stored = read_tensors(file)
    with_head = "classifier.dense.weight" in stored
    names = partial(hub_names, prefix=HUB_PREFIX if with_head else "")
    state = collect(stored, config, names, file, with_head)
    if not with_head:
        logger.warning(f"{file} has no head: a new one for {config.num_classes} classes")
    problem = hub.get("problem_type")
    multi_label = problem == MULTI_LABEL or (
        problem is None and config.num_classes == AUDIOSET_CLASSES
    )
    return Checkpoint(config, state, frontend, distinct(classes, folder), multi_label)


def read_architecture(folder: Path) -> ASTConfig:
    """The network of a model folder, without its weights; raises as `read_folder`."""
    return _config_from_hub(_read_hub_config(folder), folder / CONFIG)


def _read_hub_config(folder: Path) -> dict[str, Any]:
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(
            f"{folder} is not a model folder: {CONFIG} is missing; "
            "give a run folder, the model folder in one (best/ or last/), or one from the Hub"
        )
    hub = HUB_DEFAULTS | read_json(folder / CONFIG)
    _require_ast(folder, hub)
    return hub


def read_epoch(folder: Path) -> int | None:
    """The epoch that `write_folder` was given; None where the folder does not say."""
    file = folder / CONFIG
    return json_field(read_json(file), EPOCH, int, file, 1, default=None)


def runs_in_transformers(config: ASTConfig | BaselineConfig) -> bool:
    """Whether transformers' AST can be this model."""
    return not unknown_to_transformers(config)


def unknown_to_transformers(config: ASTConfig | BaselineConfig) -> list[str]:
    """What about a model transformers' AST cannot have; nothing where it can be the model."""
    if isinstance(config, BaselineConfig):
        return [f"timm's {config.name}, no AST"]
    height, width = config.patch
    found = {
        f"patches of {height} x {width}": height != width,
        "no DIST token": not config.distilled,
        "a head on the mean of the patch tokens": config.pooling == "patches",
    }
    return [what for what, is_so in found.items() if is_so]


def limit_in_transformers(classifier: AudioClassifier) -> str | None:
    """What transformers cannot do with a saved model, in a sentence; None where it can do all."""
    if unknown := unknown_to_transformers(classifier.model.config):
        return (
            f"transformers cannot run this model, which has {' and '.join(unknown)}; "
            "AudioClassifier.from_pretrained loads it"
        )
    frontend = classifier.frontend.config
    runs = "transformers runs this model, but its ASTFeatureExtractor"
    if unknown := unknown_to_extractor(frontend):
        return (
            f"{runs} has no {' and no '.join(unknown)}, so its features differ: give its model "
            "those of classifier.frontend"
        )
    needs = []
    if frontend.sample_rate != THEIR_RATE:
        needs.append(f"needs torchaudio for {frontend.sample_rate} Hz: install it beside")
    if frontend.padding == "silence":
        padded = f"give it waveforms padded with zeros to {classifier.window_size} samples"
        needs.append(f"pads short clips otherwise: {padded}")
    return f"{runs} {', and '.join(needs)}" if needs else None


def unknown_to_extractor(config: FrontendConfig) -> list[str]:
    """What of a front end transformers' ASTFeatureExtractor does not have: its features differ."""
    low, high = config.band
    found = []
    if config.window != THEIR_WINDOW:
        found.append(f"{config.window} window")
    if low != THEIR_LOW_FREQ:
        found.append(f"lower mel edge of {low:g} Hz")
    if high != config.sample_rate / 2:
        found.append(f"upper mel edge of {high:g} Hz")
    return found


def _require_ast(folder: Path, hub: dict[str, Any]) -> None:
    fixed = {"model_type": MODEL_TYPE, "hidden_act": "gelu", "qkv_bias": True}
    for name, expected in fixed.items():
        if hub.get(name) != expected:
            raise ValueError(
                f"{folder / CONFIG} has {name} {hub.get(name)!r:.60}, an AST has {expected!r}; "
                "give the folder of an Audio Spectrogram Transformer"
            )


def read_baseline(folder: Path) -> AudioClassifier | None:
    """The baseline that `save` wrote; None if the folder holds something else."""
    if not (folder / CONFIG).is_file():
        return None
    hub = read_json(folder / CONFIG)
    if hub.get("model_type") != BASELINE_TYPE:
        return None
    file = folder / CONFIG
    sizes = {name: json_field(hub, name, kind, file) for name, kind in BASELINE_FIELDS.items()}
    with naming(file):
        config = BaselineConfig(**sizes)
    classes = _classes(hub, file)
    frontend = _read_frontend(folder / PREPROCESSOR, config)
    stored = read_tensors(folder / WEIGHTS)
    multi_label = hub.get("problem_type") == MULTI_LABEL
    with naming(folder):
        _require_same(without_memory(config).state_dict(), stored, config.name)
        model = Baseline(config)
        model.load_state_dict(stored)
        return AudioClassifier(model, Frontend(frontend), classes, multi_label).eval()


def _require_same(expected: dict[str, Tensor], stored: dict[str, Tensor], name: str) -> None:
    other = sorted(expected.keys() ^ stored.keys())
    other += [key for key in expected if not other and expected[key].shape != stored[key].shape]
    if other:
        raise ValueError(
            f"{WEIGHTS} does not hold a {name} of this timm: {', '.join(other[:3]):.200} "
            f"({len(other)} in all) missing, unknown, or of another shape"
        )


def _labels(classifier: AudioClassifier) -> dict[str, Any]:
    return {
        "problem_type": MULTI_LABEL if classifier.multi_label else "single_label_classification",
        "id2label": {str(index): name for index, name in enumerate(classifier.classes)},
        "label2id": {name: index for index, name in enumerate(classifier.classes)},
    }


def _hub_config(config: ASTConfig) -> dict[str, Any]:
    return {
        "architectures": ["ASTForAudioClassification" if runs_in_transformers(config) else "AST"],
        "model_type": MODEL_TYPE,
        **{theirs: getattr(config, ours) for ours, theirs in HUB_FIELDS.items()},
        "frequency_stride": config.stride[0],
        "time_stride": config.stride[1],
        "patch_size": config.patch[0],
        "intermediate_size": round(config.width * config.mlp_ratio),
        "hidden_act": "gelu",
        "attention_probs_dropout_prob": config.dropout,
        "qkv_bias": True,
        **{name: getattr(config, name) for name in EXTRA_FIELDS},
    }


def _config_from_hub(hub: dict[str, Any], file: Path) -> ASTConfig:
    extra = {name: hub[name] for name in EXTRA_FIELDS if name in hub}
    extra.setdefault("head_layer_norm_eps", hub["layer_norm_eps"])
    extra.setdefault("patch", hub["patch_size"])
    extra.setdefault("stride", (hub["frequency_stride"], hub["time_stride"]))
    hidden, width = (
        json_field(hub, name, int, file, 1) for name in ("intermediate_size", "hidden_size")
    )
    num_classes = len(_classes(hub, file))
    others = {"num_classes": "id2label", "mlp_ratio": "intermediate_size / hidden_size"}
    with naming(file, HUB_FIELDS | others):
        return ASTConfig(
            num_classes=num_classes,
            mlp_ratio=hidden / width,
            **{ours: hub[theirs] for ours, theirs in HUB_FIELDS.items()},
            **extra,
        )


def _classes(hub: dict[str, Any], file: Path) -> list[str]:
    """The class names of a config.json, by their numbers."""
    labels = json_field(hub, "id2label", dict, file)
    names = [json_field(labels, f"{n}", str, f"{file}, id2label") for n in range(len(labels))]
    for name in names:
        if not is_one_line(name):
            raise ValueError(f"{file}: id2label has {name!r:.60}, expected a line of text")
    return names


def _hub_preprocessor(config: FrontendConfig) -> dict[str, Any]:
    return {
        "feature_extractor_type": "ASTFeatureExtractor",
        "feature_size": 1,
        **{theirs: getattr(config, ours) for ours, theirs in PREPROCESSOR_FIELDS.items()},
        "do_normalize": True,
        "mean": config.mean,
        "std": config.std,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
        **{name: getattr(config, name) for name in PREPROCESSOR_EXTRA},
    }


def _read_frontend(file: Path, config: ASTConfig | BaselineConfig) -> FrontendConfig:
    if not file.is_file():
        logger.warning(f"no {file}: AudioSet's mean and std are assumed")
        mean, std = STATISTICS["AudioSet"]
        return FrontendConfig(config.num_frames, config.num_mel_bins, THEIR_WINDOW, mean, std)
    hub = read_json(file)
    mean, std = 0.0, 0.5  # (x - 0) / (2 * 0.5) changes nothing
    if json_field(hub, "do_normalize", bool, file, default=True):
        mean, std = (json_field(hub, name, float, file) for name in ("mean", "std"))
    own = {name: hub[name] for name in PREPROCESSOR_EXTRA if name in hub}
    own.setdefault("window", THEIR_WINDOW)
    sizes = {
        ours: json_field(hub, theirs, int, file) for ours, theirs in PREPROCESSOR_FIELDS.items()
    }
    with naming(file, PREPROCESSOR_FIELDS):
        return FrontendConfig(mean=mean, std=std, **sizes, **own)


def _to_hub(state: dict[str, Tensor]) -> dict[str, Tensor]:
    hub = {}
    for name, tensor in state.items():
        parts = hub_names(name)
        hub.update(
            zip(parts, (part.contiguous() for part in tensor.chunk(len(parts))), strict=True)
        )
    return hub

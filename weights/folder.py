"""A saved model: a folder in the Hugging Face layout, which transformers' AST loads too.

config.json              the architecture and the class names
preprocessor_config.json the front end
model.safetensors        the weights under the Hub's key names

What the Hub's configuration cannot say stands in extra keys that transformers ignores.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from weights.files import atomic_folder

CONFIG, PREPROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"

BACKBONE = "audio_spectrogram_transformer"
HUB_NAMES = {
    "cls_token": f"{BACKBONE}.embeddings.cls_token",
    "dist_token": f"{BACKBONE}.embeddings.distillation_token",
    "positions": f"{BACKBONE}.embeddings.position_embeddings",
    "patch_embedding.projection": f"{BACKBONE}.embeddings.patch_embeddings.projection",
    "norm": f"{BACKBONE}.layernorm",
    "head_norm": "classifier.layernorm",
    "head": "classifier.dense",
}
HUB_BLOCK_NAMES = {
    "attention_norm": "layernorm_before",
    "attention.projection": "attention.output.dense",
    "mlp_norm": "layernorm_after",
    "mlp.expand": "intermediate.dense",
    "mlp.contract": "output.dense",
}
"""Ours to the Hub's, below `blocks.N` and `encoder.layer.N`; the fused qkv is split in three."""

EXTRA_FIELDS = ("patch", "stride", "distilled", "pooling", "head_layer_norm_eps", "drop_path")


def save(
    folder: str | Path,
    model: AST,
    frontend: Frontend,
    classes: Sequence[str],
    multi_label: bool = False,
) -> None:
    """Write a model folder, whole or not at all; an existing one is replaced.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left half-written.
        ValueError: model, front end and class names do not fit together.
    """
    classifier = AudioClassifier(model, frontend, classes, multi_label)
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    with atomic_folder(Path(folder)) as temporary:
        _write_json(temporary / CONFIG, _hub_config(classifier))
        _write_json(temporary / PREPROCESSOR, _hub_preprocessor(frontend.config))
        # through memory, so that a full disk is a plain OSError
        (temporary / WEIGHTS).write_bytes(to_bytes(_to_hub(state), metadata={"format": "pt"}))


def load(source: str | Path, device: str | torch.device = "cpu") -> AudioClassifier:
    """Read a model folder into an `AudioClassifier` in evaluation mode.

    Args:
        source: a folder that `save` wrote, or one in the same (Hugging Face) layout.
        device: where the model shall live.

    Raises:
        FileNotFoundError: no such folder, or a file of it is missing.
        ValueError: a file is damaged, or the weights do not match the configuration by name
            and shape; every deviating key is an error, none is skipped.
    """
    folder = Path(source)
    for name in (CONFIG, PREPROCESSOR, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} is not a model folder: {name} is missing; "
                "give the folder that training wrote (…/best or …/last)"
            )
    hub = _read_json(folder / CONFIG)
    try:
        config = _config_from_hub(hub)
        frontend = Frontend(_frontend_from_hub(_read_json(folder / PREPROCESSOR)))
        classes = [hub["id2label"][str(index)] for index in range(config.num_classes)]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder}: the configuration lacks or misspells {error}") from error
    with torch.device("meta"):  # nothing is allocated before names and shapes are known to fit
        model = AST(config)
    model.load_state_dict(_matching_state(folder / WEIGHTS, model), assign=True)
    multi_label = hub.get("problem_type") == "multi_label_classification"
    return AudioClassifier(model, frontend, classes, multi_label).to(device).eval()


def _hub_config(classifier: AudioClassifier) -> dict[str, Any]:
    config = classifier.model.config
    kind = "multi_label" if classifier.multi_label else "single_label"
    runs_in_transformers = (
        config.distilled and config.pooling == "cls" and config.patch[0] == config.patch[1]
    )
    return {
        "architectures": ["ASTForAudioClassification" if runs_in_transformers else "AST"],
        "model_type": "audio-spectrogram-transformer",
        "problem_type": f"{kind}_classification",
        "max_length": config.num_frames,
        "num_mel_bins": config.num_mel_bins,
        "frequency_stride": config.stride[0],
        "time_stride": config.stride[1],
        "patch_size": config.patch[0],
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": int(config.width * config.mlp_ratio),
        "hidden_act": "gelu",
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "qkv_bias": True,
        "layer_norm_eps": config.layer_norm_eps,
        "id2label": {str(index): name for index, name in enumerate(classifier.classes)},
        "label2id": {name: index for index, name in enumerate(classifier.classes)},
        **{name: getattr(config, name) for name in EXTRA_FIELDS},
    }


def _config_from_hub(hub: dict[str, Any]) -> ASTConfig:
    extra = {name: hub[name] for name in EXTRA_FIELDS if name in hub}
    extra.setdefault("head_layer_norm_eps", hub["layer_norm_eps"])
    extra.setdefault("patch", hub["patch_size"])
    extra.setdefault("stride", (hub["frequency_stride"], hub["time_stride"]))
    return ASTConfig(
        num_classes=len(hub["id2label"]),
        num_frames=hub["max_length"],
        num_mel_bins=hub["num_mel_bins"],
        width=hub["hidden_size"],
        depth=hub["num_hidden_layers"],
        heads=hub["num_attention_heads"],
        mlp_ratio=hub["intermediate_size"] / hub["hidden_size"],
        dropout=hub["hidden_dropout_prob"],
        layer_norm_eps=hub["layer_norm_eps"],
        **extra,
    )


def _hub_preprocessor(config: FrontendConfig) -> dict[str, Any]:
    return {
        "feature_extractor_type": "ASTFeatureExtractor",
        "feature_size": 1,
        "sampling_rate": config.sample_rate,
        "num_mel_bins": config.num_mel_bins,
        "max_length": config.num_frames,
        "do_normalize": True,
        "mean": config.mean,
        "std": config.std,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
        "window": config.window,
    }


def _frontend_from_hub(hub: dict[str, Any]) -> FrontendConfig:
    return FrontendConfig(
        num_frames=hub["max_length"],
        num_mel_bins=hub["num_mel_bins"],
        window=hub.get("window", "hanning"),  # transformers' extractor knows no other
        mean=hub["mean"],
        std=hub["std"],
        sample_rate=hub["sampling_rate"],
    )


def _to_hub(state: dict[str, Tensor]) -> dict[str, Tensor]:
    hub = {}
    for name, tensor in state.items():
        for hub_name, part in _hub_parts(name, tensor):
            hub[hub_name] = part.contiguous()
    return hub


def _hub_parts(name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    if name in HUB_NAMES:
        return [(HUB_NAMES[name], tensor)]
    module, kind = name.rsplit(".", 1)
    if module in HUB_NAMES:
        return [(f"{HUB_NAMES[module]}.{kind}", tensor)]
    _, index, part = module.split(".", 2)
    layer = f"{BACKBONE}.encoder.layer.{index}"
    if part == "attention.qkv":
        names = [f"{layer}.attention.attention.{role}.{kind}" for role in ("query", "key", "value")]
        return list(zip(names, tensor.chunk(3), strict=True))
    return [(f"{layer}.{HUB_BLOCK_NAMES[part]}.{kind}", tensor)]


def _matching_state(file: Path, model: AST) -> dict[str, Tensor]:
    """The file's tensors under our names; every deviation by name or shape is an error."""
    try:
        stored = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged or not a safetensors file: {error}") from error
    expected = _to_hub(model.state_dict())
    missing, unknown = expected.keys() - stored.keys(), stored.keys() - expected.keys()
    if missing or unknown:
        raise ValueError(
            f"{file} does not match its config.json: missing {sorted(missing)[:3]} "
            f"({len(missing)} in all), unknown {sorted(unknown)[:3]} ({len(unknown)} in all)"
        )
    for name, tensor in expected.items():
        if stored[name].shape != tensor.shape:
            raise ValueError(
                f"{file}: {name} has shape {tuple(stored[name].shape)}, "
                f"config.json asks for {tuple(tensor.shape)}"
            )
    return {
        name: torch.cat([stored[hub_name] for hub_name, _ in _hub_parts(name, tensor)])
        for name, tensor in model.state_dict().items()
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__}, expected a JSON object")
    return content

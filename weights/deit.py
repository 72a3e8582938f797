"""DeiT and ViT of timm, trained on images, as the start of an AST (paper, section 2.2)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ast_model import AST, ASTConfig
from weights.checkpoint import Positions, carry_positions, collect
from weights.names import timm_names
from weights.tensors import read_tensors

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

Channels = Literal["mean", "sum"]

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")  # of timm's checkpoints
PREFIXES = ("_orig_mod.", "module.", "_orig_mod.")  # of a compiled or parallel module, as saved
IMAGENET_HEADS = r"head(_dist)?\.(weight|bias)"


def from_timm(
    config: ASTConfig,
    name: str,
    channels: Channels = "mean",
    positions: Positions = "bilinear",
    file: str | Path | None = None,
) -> AST:
    """An AST with the patch embedding, tokens, positions and blocks of an image model.

    The kernel's three colour channels become one. A kernel of another shape than `config.patch` is
    resampled so that the embedding of a resized patch stays the same (FlexiViT's pseudo-inverse,
    timm's `resample_patch_embed`). Positions are cut or interpolated from the image's grid.
    LayerScale, if the image model has it, is multiplied into the layers before it. The class head
    is random.

    Args:
        config: of the AST: as wide and deep as the image model, with a DIST token if and only if
            it has one.
        name: timm's name of the image model, with or without a tag
            (`deit_base_distilled_patch16_384.fb_in1k`); names of old timm
            (`vit_deit_base_distilled_patch16_384`) are known too.
        channels: "mean" (the paper) or "sum" (the authors' code) of red, green and blue.
        positions: "bilinear" or "nearest" for an axis that grows, or "reinit": random, those of
            CLS and DIST too.
        file: its weights as timm writes them (safetensors, or a checkpoint of PyTorch); None lets
            timm download them from the Hugging Face hub.

    Raises:
        FileNotFoundError: `file` does not exist.
        ValueError: no such model, one that an AST cannot be, one of another size, or weights that
            cannot be fetched or read.
    """
    if channels not in ("mean", "sum"):
        raise ValueError(f"channels {channels!r} is unknown; use mean (paper) or sum (their code)")
    image_model = _open(modern_name(name), file)
    _require_same_architecture(config, image_model, name)
    stored = _fold_layer_scale(image_model.state_dict())
    kernel = stored["patch_embed.proj.weight"]  # (D, 3, height, width)
    stored["patch_embed.proj.weight"] = _fit_kernel(kernel, channels, config.patch)
    learned = _learned_positions(image_model)
    grid = image_model.patch_embed.grid_size
    stored["pos_embed"] = carry_positions(learned, grid, config.grid, positions)
    backbone = collect(stored, config, timm_names, name, False, IMAGENET_HEADS)
    model = AST(config)
    model.load_state_dict({**model.state_dict(), **backbone})
    return model


def timm_config(name: str, **fields: Any) -> ASTConfig:
    """The configuration of an AST as large as an image model.

    Args:
        name: timm's name of the image model.
        **fields: further fields of `ASTConfig`.

    Raises:
        ValueError: timm has no such model, or an AST cannot be it.
    """
    import timm

    name = modern_name(name)
    _require_known(name)
    with torch.device("meta"):  # no memory, and no weights
        return ASTConfig(**_architecture(timm.create_model(name), name) | fields)


def is_timm_name(name: str) -> bool:
    """Whether timm has a model of this name, today's or that of the authors' timm (0.4.5)."""
    import timm  # takes seconds

    return timm.is_model(modern_name(name))


def modern_name(name: str) -> str:
    """Today's name: DeiT's began with `vit_` in the timm that the authors' code pins (0.4.5)."""
    return name.removeprefix("vit_") if name.startswith("vit_deit_") else name


def _open(name: str, file: str | Path | None) -> VisionTransformer:
    import timm

    _require_known(name)
    if file is not None and not Path(file).is_file():
        raise FileNotFoundError(f"weights file {file} for {name} does not exist")
    overlay = None if file is None else {"state_dict": read_timm(file)}
    try:
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:  # of the hub, of the network, of the unpickler, of load_state_dict
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        address = timm.models.get_pretrained_cfg(name)
        hub = f"https://huggingface.co/{address.hf_hub_id}" if address else "its publisher"
        remedy = (
            f"get model.safetensors of {hub} and name it with file=PATH (--init-file PATH)"
            if file is None
            else f"give weights that timm made for {name}"
        )
        from_where = hub if file is None else file
        raise ValueError(
            f"{name}: the weights cannot be had from {from_where} ({reason}); {remedy}"
        ) from error


def read_timm(file: str | Path) -> dict[str, Tensor]:
    """The tensors of a file that timm wrote, by its names.

    Raises:
        FileNotFoundError, OSError, ValueError: as `read_tensors`.
    """
    tensors = {}
    for name, tensor in read_tensors(Path(file), WRAPPERS).items():
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        tensors[name] = tensor
    return tensors


def _require_known(name: str) -> None:
    import timm

    if not timm.is_model(name):
        raise ValueError(
            f"timm {timm.__version__} has no model {name!r}; "
            "`python -c \"import timm; print(timm.list_models('deit*'))\"` lists its DeiTs"
        )


def _require_same_architecture(
    config: ASTConfig, image_model: VisionTransformer, name: str
) -> None:
    theirs = _architecture(image_model, name)
    wrong = {key: value for key, value in theirs.items() if getattr(config, key) != value}
    if wrong:
        ours = ", ".join(f"{key} {getattr(config, key)}" for key in wrong)
        remedy = ", ".join(f"{key}={value}" for key, value in wrong.items())
        raise ValueError(f"{name} does not fit an AST of {ours}: build it with {remedy}")


def _architecture(image_model: VisionTransformer, name: str) -> dict[str, Any]:
    """The fields of `ASTConfig` that the image model decides; ValueError if it is no plain ViT."""
    from timm.models.vision_transformer import Block, VisionTransformer

    blocks = list(getattr(image_model, "blocks", []))
    if not isinstance(image_model, VisionTransformer) or any(type(b) is not Block for b in blocks):
        raise ValueError(f"{name} is no plain ViT or DeiT ({type(image_model).__name__}); use one")
    if type(blocks[0].mlp.act) is not nn.GELU or image_model.num_reg_tokens:
        raise ValueError(f"{name} has another activation or register tokens; an AST has neither")
    return {
        "width": image_model.embed_dim,
        "depth": len(blocks),
        "heads": blocks[0].attn.num_heads,
        "mlp_ratio": blocks[0].mlp.fc1.out_features / image_model.embed_dim,
        "distilled": image_model.num_prefix_tokens == 2,
        "layer_norm_eps": blocks[0].norm1.eps,
    }


def _fold_layer_scale(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """gamma * (W x + b) is (gamma W) x + gamma b."""
    folded = {name: tensor for name, tensor in state.items() if not name.endswith(".gamma")}
    for name in state.keys() - folded.keys():
        block, scale = name.removesuffix(".gamma").rsplit(".", 1)
        layer = {"ls1": "attn.proj", "ls2": "mlp.fc2"}[scale]
        gamma = state[name]
        for kind in ("weight", "bias"):
            tensor = folded[f"{block}.{layer}.{kind}"]
            folded[f"{block}.{layer}.{kind}"] = gamma.view(-1, *[1] * (tensor.dim() - 1)) * tensor
    return folded


def _fit_kernel(kernel: Tensor, channels: Channels, patch: tuple[int, int]) -> Tensor:
    from timm.layers import resample_patch_embed

    combine = torch.mean if channels == "mean" else torch.sum
    kernel = combine(kernel, dim=1, keepdim=True)  # (D, 1, height, width)
    return kernel if kernel.shape[2:] == patch else resample_patch_embed(kernel, list(patch))


def _learned_positions(image_model: VisionTransformer) -> Tensor:
    """The image's positions, with one for each special token."""
    learned = image_model.pos_embed.detach()
    if not image_model.no_embed_class:
        return learned
    rows = learned.new_zeros(1, image_model.num_prefix_tokens, learned.shape[2])
    return torch.cat([rows, learned], dim=1)  # DeiT III gives its CLS token no position

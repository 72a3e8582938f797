"""The names of a parameter: ours, the Hub's, and timm's, which the authors' files use too.

Each function takes our name and gives the names of the tensors in a file that, concatenated in
this order, are the parameter. There are several only for our fused `qkv`: the Hub's query, key and
value.
"""

from __future__ import annotations

HUB_PREFIX = "audio_spectrogram_transformer."
HUB = {
    "cls_token": "embeddings.cls_token",
    "dist_token": "embeddings.distillation_token",
    "positions": "embeddings.position_embeddings",
    "patch_embedding.projection": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
HUB_HEAD = {"head_norm": "classifier.layernorm", "head": "classifier.dense"}
HUB_BLOCK = {
    "attention_norm": "layernorm_before",
    "attention.projection": "attention.output.dense",
    "mlp_norm": "layernorm_after",
    "mlp.expand": "intermediate.dense",
    "mlp.contract": "output.dense",
}

TIMM = {
    "positions": "pos_embed",
    "patch_embedding.projection": "patch_embed.proj",
}
TIMM_BLOCK = {
    "attention_norm": "norm1",
    "attention.qkv": "attn.qkv",
    "attention.projection": "attn.proj",
    "mlp_norm": "norm2",
    "mlp.expand": "mlp.fc1",
    "mlp.contract": "mlp.fc2",
}
AUTHORS_HEAD = {"head_norm": "mlp_head.0", "head": "mlp_head.1"}


def is_head(name: str) -> bool:
    """Whether a parameter of ours belongs to the class head."""
    return name.startswith(("head_norm.", "head."))


def hub_names(name: str, prefix: str = HUB_PREFIX) -> list[str]:
    """Names in a Hugging Face folder; an `ASTModel` saved without its head has no prefix."""
    module, kind = _module_and_kind(name)
    if module in HUB_HEAD:
        return [HUB_HEAD[module] + kind]
    if module in HUB:
        return [prefix + HUB[module] + kind]
    _, index, part = module.split(".", 2)
    layer = f"{prefix}encoder.layer.{index}."
    if part == "attention.qkv":
        return [f"{layer}attention.attention.{role}{kind}" for role in ("query", "key", "value")]
    return [layer + HUB_BLOCK[part] + kind]


def timm_names(name: str) -> list[str]:
    """Names in timm's vision transformers, which have no head of ours."""
    module, kind = _module_and_kind(name)
    if module.startswith("blocks."):
        _, index, part = module.split(".", 2)
        return [f"blocks.{index}.{TIMM_BLOCK[part]}{kind}"]
    return [TIMM.get(module, module) + kind]


def authors_names(name: str) -> list[str]:
    """Names in the authors' AST and SSAST files, without the `module.` of DataParallel."""
    module, kind = _module_and_kind(name)
    if module in AUTHORS_HEAD:
        return [AUTHORS_HEAD[module] + kind]
    return [f"v.{timm}" for timm in timm_names(name)]


def _module_and_kind(name: str) -> tuple[str, str]:
    """The parameter's module, and ".weight", ".bias" or "" (a tensor that is no module's)."""
    for kind in (".weight", ".bias"):
        if name.endswith(kind):
            return name.removesuffix(kind), kind
    return name, ""

"""Models in and out: our folders, Hugging Face, the authors' files, timm, ONNX."""

from weights.card import Score, model_card
from weights.deit import from_timm, is_timm_name, timm_config
from weights.folder import save
from weights.loading import load
from weights.onnx_export import export_onnx
from weights.verify import verify

__all__ = [
    "Score",
    "export_onnx",
    "from_timm",
    "is_timm_name",
    "load",
    "model_card",
    "save",
    "timm_config",
    "verify",
]

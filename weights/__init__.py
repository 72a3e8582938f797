"""Models in and out: our folders, Hugging Face, the authors' files, timm, ONNX."""

from weights.authors_export import save_authors
from weights.card import Score, model_card
from weights.deit import from_timm, is_timm_name, timm_config
from weights.folder import save
from weights.loading import load
from weights.onnx_export import export_onnx
from weights.onnx_quantise import Int8Agreement, export_int8_onnx
from weights.verify import verify

__all__ = [
    "Int8Agreement",
    "Score",
    "export_int8_onnx",
    "export_onnx",
    "from_timm",
    "is_timm_name",
    "load",
    "model_card",
    "save",
    "save_authors",
    "timm_config",
    "verify",
]

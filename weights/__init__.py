"""Every way in and out of a model."""

from weights.deit import from_timm, is_timm_name
from weights.folder import save
from weights.loading import load
from weights.onnx_export import export_onnx

__all__ = ["export_onnx", "from_timm", "is_timm_name", "load", "save"]

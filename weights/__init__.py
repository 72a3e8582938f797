"""Every way in and out of a model."""

from weights.folder import load, save

__all__ = ["load", "save"]

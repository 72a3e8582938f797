"""Detections for a person to hear, and what their verdicts say of a model."""

from train.inference.listening.draw import By
from train.inference.listening.review import review
from train.inference.listening.segments import write_segments
from train.inference.listening.verdicts import Verdicts

__all__ = ["By", "Verdicts", "review", "write_segments"]

"""Detections in recordings: which there are, and the tables that people's programs read."""

from train.inference.detections.choice import DETECTION, Choice, choose, read_thresholds
from train.inference.detections.detect import detect
from train.inference.detections.formats import FORMATS, Heard, Table
from train.inference.detections.row_scores import score_rows
from train.inference.detections.submission import submit

__all__ = [
    "DETECTION",
    "FORMATS",
    "Choice",
    "Heard",
    "Table",
    "choose",
    "detect",
    "read_thresholds",
    "score_rows",
    "submit",
]

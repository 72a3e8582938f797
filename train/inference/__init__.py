"""A trained model on files: classes, vectors, pictures, scores, other formats."""

from train.inference.attention import attention
from train.inference.embed import embed
from train.inference.export import convert
from train.inference.predict import predict
from train.inference.scoring.ensemble import ensemble
from train.inference.scoring.evaluate import evaluate

__all__ = ["attention", "convert", "embed", "ensemble", "evaluate", "predict"]

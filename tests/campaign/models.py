"""Models so small that one is read and asked in milliseconds."""

from __future__ import annotations

from functools import cache

import torch

from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig

SOUND = torch.randn(12_000, generator=torch.Generator().manual_seed(0)) / 10


@cache
def micro(width: int = 8, num_frames: int = 64) -> AudioClassifier:
    """A random AST of one block and three classes."""
    torch.manual_seed(0)
    config = ASTConfig(num_classes=3, num_frames=num_frames, width=width, heads=width // 8, depth=1)
    frontend = Frontend(FrontendConfig(num_frames=num_frames))
    return AudioClassifier(AST(config), frontend, ("a", "b", "c")).eval()


def asked(classifier: AudioClassifier) -> list[object]:
    """What a classifier says of a sound: classes with their scores, and a vector."""
    return [classifier.classify(SOUND, top_k=2), classifier.embed(SOUND)]

"""The Audio Spectrogram Transformer: waveform in, class scores out."""

import logging

from ast_model.classifier import AudioClassifier
from ast_model.config import ASTConfig, FrontendConfig
from ast_model.frontend import Frontend
from ast_model.model import AST
from ast_model.siblings import SIBLINGS, hidden
from ast_model.timeline import Timeline

__all__ = ["AST", "ASTConfig", "AudioClassifier", "Frontend", "FrontendConfig", "Timeline"]

for line in filter(None, map(hidden, SIBLINGS)):
    logging.getLogger(__name__).warning(line)

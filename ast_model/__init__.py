"""The Audio Spectrogram Transformer: waveform in, class scores out. Imports nothing of ours."""

from ast_model.classifier import AudioClassifier
from ast_model.config import ASTConfig, FrontendConfig
from ast_model.frontend import Frontend
from ast_model.model import AST
from ast_model.timeline import Timeline

__all__ = ["AST", "ASTConfig", "AudioClassifier", "Frontend", "FrontendConfig", "Timeline"]

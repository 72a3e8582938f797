"""Self-supervised pretraining: patches of a spectrogram are hidden, and learnt from the others."""

from ast_model.pretraining.config import PretrainingConfig
from ast_model.pretraining.losses import PretextLosses
from ast_model.pretraining.mae import MAE
from ast_model.pretraining.ssast import SSAST

__all__ = ["MAE", "SSAST", "PretextLosses", "PretrainingConfig", "pretraining_model"]


def pretraining_model(config: PretrainingConfig) -> SSAST | MAE:
    """A model of the configuration's method, randomly initialised."""
    return SSAST(config) if config.method == "ssast" else MAE(config)

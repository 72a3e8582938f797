"""An image model of timm on the same filterbank, to compare an AST with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ast_model.config import MOST, require_input, require_integer

TIMM_NAME = re.compile(r"\w{1,100}(\.[\w-]{1,100})?", re.ASCII)


@dataclass(frozen=True)
class BaselineConfig:
    """Which image model, and its input and output.

    Args:
        name: timm's name of the model, such as "tf_efficientnet_b3".
        num_classes: outputs of the model.
        num_frames: length of the input, 10 ms a frame.
        num_mel_bins: height of the input.

    Raises:
        ValueError: a field is out of range; or the name is not one of timm's own, such as
            `hf-hub:owner/model` or `local-dir:folder`, where timm would look elsewhere.
    """

    name: str
    num_classes: int
    num_frames: int
    num_mel_bins: int

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not TIMM_NAME.fullmatch(self.name):
            raise ValueError(
                f"name {self.name!r:.60} is not that of a model in timm, such as "
                "tf_efficientnet_b3; models of a hub or a folder are not looked up"
            )
        require_integer("num_classes", self.num_classes, 1, MOST["num_classes"])
        require_input(self.num_frames, self.num_mel_bins)


class Baseline(nn.Module):
    """Spectrogram in, class logits out, by an image model of timm with one input channel.

    Args:
        config: the model's name, its input and output.
        pretrained: start from timm's ImageNet weights, the colour channels of the first
            convolution summed (timm's rule for one channel).
        weights: those weights by timm's names; None lets timm download them.

    Raises:
        ValueError: timm has no such model or cannot load its weights.
    """

    def __init__(
        self,
        config: BaselineConfig,
        pretrained: bool = False,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        import timm  # takes seconds

        super().__init__()
        self.config = config
        overlay = {"state_dict": dict(weights)} if weights else None
        try:
            self.image_model = timm.create_model(
                config.name,
                pretrained=pretrained,
                pretrained_cfg_overlay=overlay,
                in_chans=1,
                num_classes=config.num_classes,
            )
        except Exception as error:  # of timm's registry, the hub, the network, load_state_dict
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"timm cannot make the baseline {config.name!r} ({reason}); its names: "
                "`python -c \"import timm; print(timm.list_models('*efficientnet*'))\"`"
            ) from error
        self.image_model.pretrained_cfg.pop("state_dict", None)  # timm would keep a copy

    def forward(self, fbank: Tensor) -> Tensor:
        """Logits (batch, classes) of a normalised log-mel spectrogram (batch, frames, mel bins)."""
        return self.image_model(fbank.unsqueeze(1).transpose(2, 3))


def without_memory(config: BaselineConfig) -> Baseline:
    """The model on the device "meta": its names and shapes.

    Raises:
        ValueError: timm has no such model, or it does not give classes of an image of this size.
    """
    with torch.device("meta"), torch.no_grad():
        model = Baseline(config).eval()
        image = torch.empty(1, config.num_frames, config.num_mel_bins)
        try:
            shape, reason = model(image).shape, "no scores of classes"
        except Exception as error:  # timm's models have no error in common
            shape, reason = None, str(error).strip() or type(error).__name__
    if shape != (1, config.num_classes):
        raise ValueError(
            f"{config.name} does not take a spectrogram of {config.num_frames} frames and "
            f"{config.num_mel_bins} mel bins ({reason.splitlines()[0]:.100}); use another model, "
            "such as tf_efficientnet_b3, or another size"
        )
    return model

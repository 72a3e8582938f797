"""What you deploy: a front end, an AST and the names of its classes in one module."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ast_model.frontend import Frontend
from ast_model.model import AST


class AudioClassifier(nn.Module):
    """Waveform in, named classes with probabilities out.

    Args:
        model: an `AST`.
        frontend: the `Frontend` it was trained with.
        classes: a name for every output of the model.
        multi_label: probabilities are independent (sigmoid) instead of summing to one (softmax).

    Raises:
        ValueError: the three do not fit together.
    """

    def __init__(
        self, model: AST, frontend: Frontend, classes: Sequence[str], multi_label: bool = False
    ) -> None:
        super().__init__()
        for name in ("num_frames", "num_mel_bins"):
            of_model, of_frontend = getattr(model.config, name), getattr(frontend.config, name)
            if of_model != of_frontend:
                raise ValueError(
                    f"the model takes {name} {of_model}, but the front end makes {of_frontend}; "
                    "build both with the same number"
                )
        if len(classes) != model.config.num_classes:
            raise ValueError(
                f"{len(classes)} class names for a model of {model.config.num_classes} classes; "
                "give one name for each output"
            )
        self.model = model
        self.frontend = frontend
        self.classes = tuple(classes)
        self.multi_label = multi_label

    @torch.no_grad()
    def forward(self, waveform: Tensor, top_k: int = 5) -> list[tuple[str, float]]:
        """The likeliest classes of one clip, best first.

        Args:
            waveform: (samples,) mono at `frontend.config.sample_rate`, as `data.load_audio` gives.
            top_k: how many classes; all of them if the model has fewer.

        Returns:
            [(class, probability), ...]
        """
        waveform = torch.as_tensor(waveform)
        if waveform.dim() != 1:
            raise ValueError(
                f"waveform has shape {tuple(waveform.shape)}, expected (samples,): one mono clip; "
                "average the channels, or call probabilities() for a batch"
            )
        if top_k < 1:
            raise ValueError(f"top_k {top_k} is not positive; ask for at least one class")
        probabilities = self.probabilities(waveform[None])[0]
        best = probabilities.topk(min(top_k, len(self.classes)))
        return [
            (self.classes[index], value)
            for value, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    @torch.no_grad()
    def probabilities(self, waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Probabilities (batch, classes) of waveforms (batch, samples) with `lengths` (batch,)."""
        logits = self.logits(waveforms, lengths).float()
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=-1)

    def logits(self, waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, classes); differentiable, on the model's device."""
        device = self.model.head.weight.device
        return self.model(self.frontend(waveforms.to(device), lengths))

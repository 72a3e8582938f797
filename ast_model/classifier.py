"""What you deploy: a front end, an AST and the names of its classes in one module."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ast_model.baseline import Baseline
from ast_model.frontend import Frontend
from ast_model.model import AST
from ast_model.timeline import Timeline, as_mono, likeliest, windows

CUT_UP_TO = 1.1  # clips are seldom exact to the frame: so much longer ones are cut, not windowed
LEVELS = ("clip", "frame", "patch")


class AudioClassifier(nn.Module):
    """Waveform in, named classes with probabilities out.

    Args:
        model: an `AST`, or a `Baseline` to compare it with.
        frontend: the `Frontend` it was trained with.
        classes: a name for every output of the model.
        multi_label: probabilities are independent (sigmoid) instead of summing to one (softmax).

    Raises:
        ValueError: the three do not fit together.
    """

    def __init__(
        self,
        model: AST | Baseline,
        frontend: Frontend,
        classes: Sequence[str],
        multi_label: bool = False,
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
    def forward(
        self, waveform: Tensor, top_k: int = 5, own_length: bool = False
    ) -> list[tuple[str, float]]:
        """The likeliest classes of one recording, best first.

        A clip up to `CUT_UP_TO` times the model's length is cut or padded to it as in training;
        a longer recording is scored by its windows: `timeline(waveform).top(top_k)`.

        Args:
            waveform: (samples,) mono at `frontend.config.sample_rate`, as `data.load_audio` gives.
            top_k: how many classes; all of them if the model has fewer.
            own_length: a shorter clip is not padded; see `logits`.

        Returns:
            [(class, probability), ...]
        """
        waveform = as_mono(waveform)
        if len(waveform) > CUT_UP_TO * self.window_size:
            return self.timeline(waveform).top(top_k)
        probabilities = self.probabilities(waveform[None], own_length=own_length)[0]
        return likeliest(probabilities, self.classes, top_k)

    @torch.no_grad()
    def probabilities(
        self, waveforms: Tensor, lengths: Tensor | None = None, own_length: bool = False
    ) -> Tensor:
        """Probabilities (batch, classes); the arguments are those of `logits`."""
        logits = self.logits(waveforms, lengths, own_length).float()
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=-1)

    def logits(
        self, waveforms: Tensor, lengths: Tensor | None = None, own_length: bool = False
    ) -> Tensor:
        """Logits (batch, classes); differentiable, on the model's device.

        Args:
            waveforms: (batch, samples) mono.
            lengths: (batch,) integers, each clip's own samples; None: all of them.
            own_length: run at the length of the batch's longest clip, if that is below the
                model's, instead of padding all to the model's length: only the patches that it
                takes to hold that clip, each at the position that it has in the padded clip. The
                batch's shorter clips are padded as usual, one shorter than a patch to one patch.
                Faster, but without the padding that the model may have learned from: measure
                the accuracy.
        """
        fbank = self._fbank(waveforms, lengths, own_length)
        return self.model(fbank, own_length=True) if own_length else self.model(fbank)

    @torch.no_grad()
    def timeline(
        self,
        waveform: Tensor | np.ndarray | Iterable[Any],
        hop: float | None = None,
        batch_size: int = 8,
    ) -> Timeline:
        """What is heard when: the probabilities in overlapping windows of the model's length.

        The last window ends with the recording; a recording shorter than a window is one window,
        padded as in training. Memory does not grow with the recording's length where it comes in
        blocks, apart from the probabilities; how it is cut into blocks changes nothing.

        Args:
            waveform: (samples,) mono, or an iterable of its consecutive blocks, (samples,) each.
            hop: seconds from one window to the next; None: half a window.
            batch_size: windows that run through the model at a time.

        Raises:
            ValueError: the hop is longer than a window (sound between two would go unheard) or
                not positive, or the recording is empty, not mono, or shorter than 25 ms.
        """
        size, rate = self.window_size, self.frontend.config.sample_rate
        if hop is not None and not 0 < hop <= size / rate:
            raise ValueError(
                f"hop {hop} s is not in (0, {size / rate:g}] s, the length of the model's window"
            )
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size} is not positive; use at least 1")
        step = size // 2 if hop is None else max(1, round(hop * rate))
        blocks = [waveform] if isinstance(waveform, Tensor | np.ndarray) else waveform
        stream = windows(blocks, size, step)
        spans, probabilities = [], []
        while batch := list(islice(stream, batch_size)):
            spans += [(start, start + len(window)) for start, window in batch]
            stacked = torch.stack([window for _, window in batch])
            probabilities.append(self.probabilities(stacked).cpu())
        starts, ends = (torch.tensor(spans, dtype=torch.float64) / rate).unbind(1)
        return Timeline(starts, ends, torch.cat(probabilities), self.classes, self.multi_label)

    @torch.no_grad()
    def embed(
        self,
        waveforms: Tensor,
        lengths: Tensor | None = None,
        level: str = "clip",
        own_length: bool = False,
    ) -> Tensor:
        """Vectors that describe the sound; width D of the model, on its device.

          - "clip": (batch, D), what the head receives: one vector for the whole clip;
          - "frame": (batch, time, D), the mean over the frequency rows of the patch grid: one
            vector every `frame_step` seconds, the first centred half a patch into the clip;
          - "patch": (batch, frequency, time, D), the patches' tokens after the final norm; row 0
            is the lowest band.

        A clip shorter than the model's length has vectors of its padding too, at the end, unless
        it runs at its `own_length`; see `logits` for the arguments.

        Raises:
            ValueError: the level is unknown, or the model is training with patchout, or no AST.
        """
        if level not in LEVELS:
            raise ValueError(f"level {level!r} is unknown; use one of {', '.join(LEVELS)}")
        model, fbank = self._ast(), self._fbank(waveforms, lengths, own_length)
        if level == "clip":
            return model.embed(fbank, own_length)
        patches = model.patch_grid(model.forward_features(fbank, own_length))
        return patches.mean(dim=1) if level == "frame" else patches

    @torch.no_grad()
    def attention_map(
        self,
        waveforms: Tensor,
        lengths: Tensor | None = None,
        kind: str = "rollout",
        own_length: bool = False,
    ) -> Tensor:
        """How much each patch counts for the class tokens: (batch, frequency, time), sum 1 a clip.

        `kind` is "rollout" or "last", see `AST.attention_map`; other arguments: see `logits`. The
        padding of a clip shorter than the model's length has its share too.
        """
        model, fbank = self._ast(), self._fbank(waveforms, lengths, own_length)
        return model.attention_map(fbank, kind, own_length)

    @property
    def window_size(self) -> int:
        """Samples that the model hears at once."""
        return self.frontend.fbank.num_samples(self.frontend.config.num_frames)

    @property
    def frame_step(self) -> float:
        """Seconds from one column of the patch grid to the next: 0.1 at the paper's stride."""
        samples = self._ast().config.stride[1] * self.frontend.fbank.shift
        return samples / self.frontend.config.sample_rate

    def _ast(self) -> AST:
        if not isinstance(self.model, AST):
            raise ValueError(
                f"{self.model.config.name} is no AST: it has no patches, so no embeddings and no "
                "attention, and hears one length only; load an AST for these"
            )
        return self.model

    def _fbank(self, waveforms: Tensor, lengths: Tensor | None, own_length: bool) -> Tensor:
        num_frames = None
        if own_length:
            fbank = self.frontend.fbank
            longest = max(fbank.check_clips(waveforms, lengths))
            num_frames = self._ast().config.own_frames(fbank.num_frames(longest))
        device = next(self.model.parameters()).device
        return self.frontend(waveforms.to(device), lengths, num_frames)

"""A model for use: front end, network and class names in one module; sounds in, classes out.

Shapes: B batch, N samples, C classes, D width of the model.
"""

from __future__ import annotations

import logging
import math
import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ast_model.baseline import Baseline
from ast_model.frontend import Frontend
from ast_model.model import AST
from ast_model.siblings import require_siblings
from ast_model.timeline import Timeline, as_mono, likeliest, no_waveform, windows

logger = logging.getLogger(__name__)

Sound: TypeAlias = str | os.PathLike[str] | Tensor | np.ndarray
"""An audio file, or the samples (N,) of one mono clip."""

Scores: TypeAlias = list[tuple[str, float]]
"""[(class, probability), ...], the likeliest first."""

# A clip of up to 1.1 times the model's length is cut to it, as in training: recordings of nominally
# that length are often some frames longer. Windows would count those frames as much as the rest.
CUT_UP_TO = 1.1
LOUDEST = 2.0  # of samples in [-1, 1] that resampling or mastering made overshoot
LEVELS = ("clip", "frame", "patch")
CLIPS_AT_ONCE = 8
MUCH_PADDING = 0.2  # of the input in training: from there on silence is taken for some class


class AudioClassifier(nn.Module):
    """Sounds in, named classes with probabilities out.

    `classify`, `timeline`, `embed` and `attention_map` take audio files and arrays; calling the
    classifier takes a batch of waveforms and gives logits, as with any other `nn.Module`. `.to()`,
    `.bfloat16()` and `.half()` move the model as usual; the front end stays in float32.

    Args:
        model: an `AST`, or a `Baseline` to compare it with.
        frontend: the `Frontend` it was trained with.
        classes: a name for every output of the model, all different.
        multi_label: probabilities are independent (sigmoid) instead of summing to one (softmax).

    Raises:
        ValueError: model, front end and class names do not fit together.
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
        if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
            raise ValueError(
                f"classes {classes!r:.60} are not a list of names; give a str for each output"
            )
        if len(classes) != model.config.num_classes:
            raise ValueError(
                f"{len(classes)} class names for a model of {model.config.num_classes} classes; "
                "give one name for each output"
            )
        if twice := [name for name, count in Counter(classes).items() if count > 1]:
            raise ValueError(
                f"class names occur more than once: {', '.join(twice)}; give each its own"
            )
        self.model = model
        self.frontend = frontend
        self.classes = tuple(classes)
        self.multi_label = multi_label
        self.source: str | None = None  # where `from_pretrained` read it, for messages
        self._warned_of_scale = self._warned_of_padding = self._told_of_rate = False

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        num_classes: int | None = None,
        num_frames: int | None = None,
        stride: int | tuple[int, int] | None = None,
        device: str | torch.device = "cpu",
        **options: Any,
    ) -> AudioClassifier:
        """Read a saved or published model; the same as `weights.load`.

        Args:
            source: a folder that `save_pretrained` or transformers wrote, a run folder (its
                `last/`), a Hugging Face hub id, the authors' AST or SSAST `.pth`, or the name of a
                file that they published.
            num_classes: makes a new, random head where this is not the model's number.
            num_frames: length of the input, 10 ms a frame; positions are fitted to it.
            stride: of the patches, (frequency, time) or one number for both.
            device: of the model.
            **options: further arguments of `weights.load`, such as `classes` or `mean`.

        Raises:
            FileNotFoundError: no such file, folder, published name or hub id.
            ValueError: a file is damaged or of another kind, or a download failed.
            ImportError: a module of your own hides the project's `weights` or `data`.
        """
        require_siblings()
        from weights import load

        return load(source, num_classes, num_frames, stride, device, **options)

    def save_pretrained(self, folder: str | Path, card: str | None = None) -> None:
        """Write a model folder that `from_pretrained` reads; the same as `weights.save`.

        Args:
            folder: a new or empty folder, or one that holds an older model, which is replaced.
            card: Markdown for the Hugging Face hub; `weights.model_card` makes one. None: that
                of the older model stays.

        Raises:
            ValueError: the folder holds something else than a model.
            OSError: it cannot be written; nothing is left half-written.
            ImportError: a module of your own hides the project's `weights` or `data`.
        """
        require_siblings()
        from weights import save

        save(folder, self, card)

    def forward(self, waveforms: Tensor, lengths: Tensor | None = None, pad: bool = True) -> Tensor:
        """Logits of a batch of clips, differentiable.

        A clip longer than the model's input is cut at the end.

        Args:
            waveforms: (B, N) mono at `frontend.config.sample_rate`, in [-1, 1], of any floating
                type, on any device.
            lengths: (B,) integers, each clip's own samples; None: all of them.
            pad: pad shorter clips to the model's length, as in training. Without, the batch runs
                at the length of its longest clip: on as many patches as it takes to hold that
                clip, each with the position that it has in the padded one. That is faster, but
                the model may rely on the padding: measure the accuracy.

        Returns:
            (B, C), on the model's device and of its dtype.

        Raises:
            ValueError: a wrong shape or type, a clip shorter than 25 ms, or `pad=False` for a
                model that is no AST.
        """
        fbank = self._fbank(waveforms, lengths, pad)
        return self.model(fbank) if pad else self.model(fbank, pad=False)

    @torch.no_grad()
    def probabilities(
        self, waveforms: Tensor, lengths: Tensor | None = None, pad: bool = True
    ) -> Tensor:
        """Probabilities (B, C) in float32, without gradients; arguments as in `forward`.

        Raises:
            ValueError: as in `forward`; or the model gives NaN or infinity.
        """
        logits = self.require_finite(self(waveforms, lengths, pad).float())
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=-1)

    def require_finite(self, outputs: Tensor) -> Tensor:
        """What the model gives, of any shape; ValueError where NaN or infinity is in it."""
        if not outputs.isfinite().all():
            raise ValueError(
                f"{self.source or 'the model'} gives NaN or infinity instead of scores: its "
                "weights are broken, or too large for this precision (try fp32), or the sound is "
                "far beyond [-1, 1]"
            )
        return outputs

    @overload
    def classify(
        self, sound: Sound, sample_rate: float | None = None, top_k: int = 5, pad: bool = True
    ) -> Scores: ...

    @overload
    def classify(
        self, sound: list[Any], sample_rate: float | None = None, top_k: int = 5, pad: bool = True
    ) -> list[Scores]: ...

    @torch.no_grad()
    def classify(
        self,
        sound: Sound | list[Any],
        sample_rate: float | None = None,
        top_k: int = 5,
        pad: bool = True,
    ) -> Scores | list[Scores]:
        """The likeliest classes of a recording, or of each of a list of recordings.

        A clip up to 1.1 times the model's length is padded or cut to it, as in training.
        A longer recording is scored by overlapping windows, as in `timeline(sound).top(top_k)`.

        Args:
            sound: the path of an audio file; an array or tensor (N,), mono, in [-1, 1]; or a list
                of these, which run through the model in batches.
            sample_rate: of arrays, in whole Hz; they are resampled to the model's. None: arrays
                have the model's rate, `frontend.config.sample_rate`. Files tell their own.
            top_k: how many classes; all of them if the model has fewer.
            pad: as in `forward`. Whatever else is in the list, a clip scores as it does alone.

        Returns:
            [(class, probability), ...], the likeliest first; for a list, one such list each.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a file cannot be decoded; an array is not (N,) of floating point, or holds
                NaN or infinity; a sound is shorter than 25 ms; the rate is not from 1,000 to
                1,000,000 Hz; or the model gives NaN or infinity.
            ImportError: a module of your own hides the project's `data`, which reads files.
        """
        if not isinstance(sound, list | tuple):
            return self.classify([sound], sample_rate, top_k, pad)[0]
        numbered = enumerate(sound)
        rows: list[Tensor] = []
        while some := dict(islice(numbered, CLIPS_AT_ONCE)):
            rows += self._scores(some, sample_rate, pad)
        return [likeliest(row, self.classes, top_k) for row in rows]

    @torch.no_grad()
    def timeline(
        self,
        sound: Sound | Iterable[Any],
        sample_rate: float | None = None,
        hop: float | None = None,
        batch_size: int = CLIPS_AT_ONCE,
    ) -> Timeline:
        """What is heard when: the probabilities in overlapping windows of the model's length.

        A model that learnt from much padding cannot be trusted here, which is logged once. The last
        window ends with the recording; a recording shorter than a window is one window,
        padded as in training. A file, or a recording that comes in blocks, is never in memory as
        a whole; how it is cut into blocks changes nothing.

        Args:
            sound: the path of an audio file; an array or tensor (N,), mono; or an iterable of
                such arrays, the consecutive blocks of one recording.
            sample_rate: of arrays, in Hz; None: the model's. See `classify`.
            hop: seconds from one window to the next; None: half a window.
            batch_size: windows that run through the model at a time.

        Raises:
            FileNotFoundError, ImportError: as in `classify`.
            ValueError: as in `classify`; or the hop is not positive, or longer than a window, so
                that sound between two would go unheard.
        """
        size, rate = self.window_size, self.frontend.config.sample_rate
        if hop is not None and not 0 < hop <= size / rate:
            raise ValueError(
                f"hop {hop} s is not in (0, {size / rate:g}] s, the length of the model's window"
            )
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size} is not positive; use at least 1")
        step = size // 2 if hop is None else max(1, round(hop * rate))
        stream = windows(self._blocks(sound, sample_rate), size, step)
        # Kept tensors of each batch would lie between large ones, and scatter what those free.
        spans, probabilities = [], array("f")
        while batch := list(islice(stream, batch_size)):
            spans += [(start, start + len(window)) for start, window in batch]
            stacked = torch.stack([window for _, window in batch])
            probabilities.frombytes(self.probabilities(stacked).cpu().numpy().tobytes())
        if len(spans) > 1:
            self._warn_of_padding()
        starts, ends = (torch.tensor(spans, dtype=torch.float64) / rate).unbind(1)
        scores = torch.frombuffer(probabilities, dtype=torch.float32).view(len(spans), -1)
        return Timeline(starts, ends, scores, self.classes, self.multi_label)

    @torch.no_grad()
    def embed(
        self,
        sound: Sound | list[Any],
        sample_rate: float | None = None,
        *,
        lengths: Tensor | None = None,
        level: str = "clip",
        pad: bool = True,
    ) -> Tensor:
        """Vectors that describe a sound; one longer than the model's input is cut to it.

        At the levels "frame" and "patch", a clip shorter than the model's input has vectors of its
        padding too, at the end, unless it runs with `pad=False`.

        Args:
            sound: the path of an audio file; an array or tensor (N,), mono; a list of these, which
                is one batch; or a batch (B, N) of clips at the model's rate.
            sample_rate: of arrays (N,), in Hz; None: the model's. See `classify`.
            lengths: (B,) integers, the own samples of each clip of a batch (B, N); None: all.
            level: "clip": what the head receives, one vector for the whole clip, (D,);
                "frame": the mean over the frequency rows of the patch grid, (time, D), one vector
                every `frame_step` seconds, the first centred half a patch into the clip;
                "patch": the patches' tokens after the final norm, (frequency, time, D), the
                lowest band first.
            pad: as in `forward`.

        Returns:
            float32, on the model's device; with a first axis B for a list or a batch.

        Raises:
            FileNotFoundError, ImportError: as in `classify`.
            ValueError: as in `classify`; or the list is empty, the level is unknown, the model is
                no AST, or it is training with patchout.
        """
        if level not in LEVELS:
            raise ValueError(f"level {level!r} is unknown; use one of {', '.join(LEVELS)}")
        model = self._ast()
        waveforms, lengths = self._batch(sound, sample_rate, lengths)
        fbank = self._fbank(waveforms, lengths, pad)
        if level == "clip":
            vectors = model.embed(fbank, pad)
        else:
            vectors = model.patch_grid(model.forward_features(fbank, pad))
        vectors = (vectors.mean(dim=1) if level == "frame" else vectors).float()
        self.require_finite(vectors)
        return vectors if _is_batch(sound) else vectors[0]

    @torch.no_grad()
    def attention_map(
        self,
        sound: Sound | list[Any],
        sample_rate: float | None = None,
        *,
        lengths: Tensor | None = None,
        kind: str = "rollout",
        pad: bool = True,
    ) -> Tensor:
        """How much each patch counts for the scores; the padding of a short clip counts too.

        Args:
            sound: as in `embed`; so are `sample_rate`, `lengths` and `pad`.
            kind: "rollout" or "last", see `AST.attention_map`.

        Returns:
            (frequency, time) float32 that sum to one, the lowest band first, on the model's
            device; with a first axis B for a list or a batch.

        Raises:
            FileNotFoundError, ImportError: as in `classify`.
            ValueError: as in `embed`; or the kind is unknown.
        """
        model = self._ast()
        waveforms, lengths = self._batch(sound, sample_rate, lengths)
        maps = model.attention_map(self._fbank(waveforms, lengths, pad), kind, pad)
        self.require_finite(maps)
        return maps if _is_batch(sound) else maps[0]

    @property
    def window_size(self) -> int:
        """Samples that the model hears at once."""
        return self.frontend.fbank.num_samples(self.frontend.config.num_frames)

    @property
    def longest_clip(self) -> int:
        """Samples of the longest recording that is cut to the window; a longer one has several."""
        return round(CUT_UP_TO * self.window_size)

    @property
    def frame_step(self) -> float:
        """Seconds from one column of the patch grid to the next: 0.1 at the paper's stride."""
        samples = self._ast().config.stride[1] * self.frontend.fbank.shift
        return samples / self.frontend.config.sample_rate

    def _warn_of_padding(self) -> None:
        share = self.frontend.config.padded_share
        if share < MUCH_PADDING or self._warned_of_padding:
            return
        self._warned_of_padding = True
        logger.warning(
            f"the model learnt from inputs of which {share:.0%} was padding after the clip: do not "
            "trust it in long recordings, where it takes silence, and sounds in the middle of a "
            "window, for any class; train with --placement random"
        )

    def _ast(self) -> AST:
        if not isinstance(self.model, AST):
            raise ValueError(
                f"{self.model.config.name} is no AST: it has no patches, so no embeddings and no "
                "attention, and hears one length only; load an AST for these"
            )
        return self.model

    def _fbank(self, waveforms: Tensor, lengths: Tensor | None, pad: bool) -> Tensor:
        """The network's input, on its device and of its dtype."""
        num_frames = None
        if not pad:
            longest = max(self.frontend.fbank.check_clips(waveforms, lengths))
            num_frames = self._unpadded_frames(longest)
        parameter = next(self.model.parameters())
        fbank = self.frontend(waveforms.to(parameter.device), lengths, num_frames)
        return fbank.to(parameter.dtype)

    def _unpadded_frames(self, samples: int) -> int:
        return self._ast().config.unpadded_frames(self.frontend.fbank.num_frames(samples))

    def _scores(
        self, sounds: Mapping[int, Sound], sample_rate: float | None, pad: bool
    ) -> list[Tensor]:
        """Probabilities (C,) of each of a few sounds by number, on the CPU."""
        shortest, longest = self.frontend.fbank.window_size, self.longest_clip
        rows: dict[int, Tensor] = {}
        clips: defaultdict[int, dict[int, Tensor]] = defaultdict(dict)  # by frames, if unpadded
        for number, sound in sounds.items():
            blocks, start, samples = iter(self._blocks(sound, sample_rate)), [], 0
            while samples <= longest and (block := next(blocks, None)) is not None:
                start.append(block)
                samples += len(block)
            if samples < shortest:
                name = sound if isinstance(sound, str | os.PathLike) else f"sound {number}"
                raise ValueError(
                    f"{name} is {samples} samples long at the model's rate; at least {shortest} "
                    "are needed (25 ms): leave it out or pad it"
                )
            if samples > longest:
                rows[number] = self.timeline(chain(start, blocks)).clip_probabilities()
            else:
                clips[0 if pad else self._unpadded_frames(samples)][number] = torch.cat(start)
        for group in clips.values():
            batch, lengths = self._padded(list(group.values()))
            rows |= zip(group, self.probabilities(batch, lengths, pad).cpu(), strict=True)
        return [rows[number] for number in sounds]

    def _batch(
        self, sound: Sound | list[Any], sample_rate: float | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Clips at the model's rate, (B, N), and their lengths; B is 1 for a single sound."""
        rate = self.frontend.config.sample_rate
        if _is_batch(sound) and not isinstance(sound, list | tuple):
            if sample_rate not in (None, rate):
                raise ValueError(
                    f"a batch has to be at the model's {rate} Hz, not {sample_rate}; give a list "
                    "of clips, which are resampled"
                )
            return torch.as_tensor(sound), lengths
        if lengths is not None:
            raise ValueError("lengths are for a batch (batch, samples); leave them out here")
        sounds = sound if isinstance(sound, list | tuple) else [sound]
        clips = [[*self._blocks(one, sample_rate, whole=True)] for one in sounds]
        if not clips or not all(clips):
            raise ValueError("the list of sounds, or a sound in it, is empty; give at least one")
        return self._padded([torch.cat(blocks) for blocks in clips])

    def _padded(self, clips: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Clips (N,) as one batch (B, N) on the model's device, and their lengths (B,)."""
        device = next(self.model.parameters()).device
        batch = pad_sequence([clip.to(device) for clip in clips], batch_first=True)
        return batch, torch.tensor([len(clip) for clip in clips])

    def _blocks(
        self, sound: Sound | Iterable[Any], sample_rate: float | None, whole: bool = False
    ) -> Iterable[Tensor]:
        """The consecutive blocks (N,) of one recording, float32 at the model's rate.

        Args:
            whole: they are to be in memory together, so a file may last hours, not days.
        """
        rate = self.frontend.config.sample_rate
        if isinstance(sound, str | os.PathLike):
            require_siblings()
            from data.audio import STREAM_SECONDS, WHOLE_SECONDS, read_header, stream_audio

            if not self._told_of_rate:
                self._tell_of_rate(read_header(Path(sound)).sample_rate)
            most = WHOLE_SECONDS if whole else STREAM_SECONDS
            return stream_audio(sound, rate, max_seconds=most)
        if isinstance(sound, Tensor | np.ndarray):
            sound = [sound]
        if not isinstance(sound, Iterable):
            raise no_waveform(sound)
        blocks = map(self._waveform, sound)
        if sample_rate in (None, rate):
            return blocks
        require_siblings()
        from data.audio import resampled, whole_rate

        source_rate = whole_rate(sample_rate)
        self._tell_of_rate(source_rate)
        samples = (block.detach().cpu().numpy() for block in blocks)
        return map(torch.from_numpy, resampled(samples, source_rate, rate))

    def _tell_of_rate(self, sample_rate: int) -> None:
        """Say once that sounds are resampled, by the first that is."""
        rate = self.frontend.config.sample_rate
        if sample_rate == rate or self._told_of_rate:
            return
        self._told_of_rate = True
        logger.info(
            f"sounds are resampled to the model's {rate} Hz, the first from {sample_rate} Hz"
        )

    def _waveform(self, samples: Any) -> Tensor:
        """One mono block (N,) in float32; ValueError if it is something else."""
        waveform = as_mono(samples)
        if not waveform.is_floating_point():
            raise ValueError(
                f"samples are {waveform.dtype}; expected floating point in [-1, 1] "
                "(divide 16-bit integers by 32768)"
            )
        waveform = waveform.float()
        if not len(waveform):
            return waveform
        lowest, highest = (value.item() for value in waveform.aminmax())
        if not math.isfinite(highest - lowest):
            raise ValueError("samples hold NaN or infinity; repair the sound or leave it out")
        if max(highest, -lowest) > LOUDEST and not self._warned_of_scale:
            self._warned_of_scale = True
            logger.warning(
                f"samples lie in [{lowest:.4g}, {highest:.4g}], the model expects [-1, 1]: divide "
                "them by the full scale of their type, 16-bit integers by 32768"
            )
        return waveform


def _is_batch(sound: Any) -> bool:
    """Whether `embed` is given several sounds."""
    return isinstance(sound, list | tuple) or (
        isinstance(sound, Tensor | np.ndarray) and sound.ndim == 2
    )

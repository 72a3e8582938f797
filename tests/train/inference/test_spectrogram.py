"""Pictures: what is drawn stands at the right time and frequency, in bounded memory."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from ast_model.frontend import KaldiFbank
from ast_model.timeline import Timeline
from train.inference import spectrogram
from train.inference.spectrogram import (
    SpectrogramStream,
    attention_figure,
    timeline_figure,
)
from train.run.plots import save_figure
from train.run.spectrogram import draw_spectrogram, mel_row

FBANK = KaldiFbank()


def stream(waveform, *lengths):
    result = SpectrogramStream(FBANK)
    for block in waveform.split(list(lengths) or len(waveform)):
        result.add(block)
    return result


def test_blocks_of_any_length_give_the_spectrogram_of_the_whole():
    waveform = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    whole = FBANK(waveform[None])[0][0]
    assert torch.equal(stream(waveform).columns, whole)
    parts = stream(waveform, 100, 299, 1, 12_345, 7_255)
    assert torch.allclose(parts.columns, whole, atol=1e-5)


def test_a_long_recording_takes_a_bounded_number_of_columns(monkeypatch):
    monkeypatch.setattr(spectrogram, "MOST_COLUMNS", 20)
    waveform = torch.randn(16_000, generator=torch.Generator().manual_seed(0))  # 98 frames
    result = stream(waveform, 7_000, 5_000, 4_000)
    assert result.frames_a_column == 8
    assert result.seconds_a_column == pytest.approx(0.08)
    whole = FBANK(waveform[None])[0][0]
    assert torch.allclose(result.columns, whole[:96].unflatten(0, (-1, 8)).mean(1), atol=1e-4)


def test_blocks_pass_through_unchanged():
    blocks = [torch.zeros(500), torch.ones(300)]
    result = SpectrogramStream(FBANK)
    assert all(out is block for out, block in zip(result.through(blocks), blocks, strict=True))
    assert len(result.columns) == 3


@pytest.mark.parametrize("hertz", [500, 1000, 4000])
@pytest.mark.parametrize("fbank", [FBANK, KaldiFbank(32_000, low_freq=50.0, high_freq=14e3)])
def test_a_tone_lies_at_its_tick(hertz, fbank):
    tone = torch.sin(2 * torch.pi * hertz * torch.arange(32_000) / fbank.sample_rate)
    loudest = int(fbank(tone[None])[0][0].mean(0).argmax())
    assert mel_row(hertz, 128, fbank.band) == pytest.approx(loudest, abs=1)


def test_ticks_lie_within_the_band():
    axes = Figure().subplots()
    fbank = KaldiFbank(32_000, low_freq=600.0, high_freq=5e3)
    draw_spectrogram(axes, np.random.default_rng(0).random((50, 128)), 0.01, fbank)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1 kHz", "2 kHz", "4 kHz"]


def timeline(windows, classes=3, hop=2.5):
    starts = torch.arange(windows, dtype=torch.float64) * hop
    names = tuple(f"class $ {index}" for index in range(classes))
    probabilities = torch.rand(windows, classes, generator=torch.Generator().manual_seed(0))
    return Timeline(starts, starts + 5, probabilities, names, True)


def test_the_timeline_of_many_classes_shows_the_likeliest_in_their_windows(tmp_path):
    shown = timeline(4, classes=30)
    figure = timeline_figure(stream(torch.randn(200_000)), shown, "a $title")
    above, below = figure.axes[:2]
    drawn = [label.get_text() for label in below.get_yticklabels()]
    peaks = shown.probabilities.amax(0)
    assert drawn == [shown.classes[index] for index in peaks.argsort(descending=True)[:16]]
    line = "16 of 30 classes: those with the highest probability in any window"
    assert below.get_title("left") == line
    cells = below.collections[0]
    first = shown.probabilities[:, shown.classes.index(drawn[0])]
    assert np.allclose(cells.get_array()[0], first)
    assert np.allclose(cells.get_coordinates()[0, :, 0], [0, 3.75, 6.25, 8.75, 12.5])
    assert above.get_xlim() == (0, 12.5)
    save_figure(figure, tmp_path / "timeline.png")
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")


def test_the_timeline_shows_every_class_of_a_model_of_few():
    below = timeline_figure(stream(torch.randn(16_000)), timeline(4, classes=16), "t").axes[1]
    assert len(below.get_yticklabels()) == 16
    assert below.get_title("left") == ""


@pytest.mark.parametrize(("windows", "label"), [(1, "time (s)"), (240, "time (min:s)")])
def test_time_is_in_seconds_or_minutes(windows, label):
    figure = timeline_figure(stream(torch.randn(16_000)), timeline(windows), "title")
    assert figure.axes[1].get_xlabel() == label


def test_attention_lies_over_what_was_looked_at(classifier):
    """Patches of 16 x 16 every 10: one of 12 x 5 begins 30 frames after the clip's start."""
    attention = torch.zeros(12, 5)
    attention[2, 3] = 1
    figure = attention_figure(classifier, torch.randn(8_000), attention, 10.0, "title")
    axes = figure.axes[0]
    image = axes.images[1]
    left, right, bottom, top = image.get_extent()
    width, height = (right - left) / 5, (top - bottom) / 12
    assert left + 3.5 * width == pytest.approx(10 + 0.01 * (30 + 8))  # the patch's centre
    assert bottom + 2.5 * height == pytest.approx(20 + 8 - 0.5)
    assert image.get_array().max() == 60
    assert axes.get_xlim() == (10.0, pytest.approx(10.64))

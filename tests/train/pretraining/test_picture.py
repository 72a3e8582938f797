"""The picture of a reconstruction: what is hidden, and where."""

import numpy as np
import pytest

from ast_model import Frontend, FrontendConfig
from train.pretraining.picture import reconstruction_figure


@pytest.fixture(scope="module")
def panels():
    """Of 40 frames and 16 mels in patches of 8 mels x 16 frames; the grid is 2 x 2."""
    frontend = Frontend(FrontendConfig(num_frames=40, num_mel_bins=16))
    fbank = np.arange(40 * 16, dtype=np.float32).reshape(40, 16)
    mask = np.array([[True, False], [False, False]])  # the low frequencies at the start
    figure = reconstruction_figure(fbank, -fbank, mask, (8, 16), frontend, "clip $1")
    figure.draw_without_rendering()
    return figure, fbank


def drawn(axes):
    """The values, (frames, mels), NaN where nothing is drawn."""
    return np.ma.filled(axes.images[0].get_array().astype(float), np.nan).T


def test_what_is_hidden_is_left_out_and_then_reconstructed(panels):
    figure, fbank = panels
    clip, seen, made = (drawn(axes) for axes in figure.axes[:3])
    hidden = np.zeros((40, 16), bool)
    hidden[:16, :8] = True
    assert np.array_equal(clip, fbank)
    assert np.array_equal(np.isnan(seen), hidden)
    assert np.array_equal(seen[~hidden], fbank[~hidden])
    assert np.array_equal(made, np.where(hidden, -fbank, fbank))


def test_panels_share_axes_and_colours(panels):
    figure, _ = panels
    first, *others = figure.axes[:3]
    assert first.get_xlabel() == "time (s)" and first.get_xlim() == (0, pytest.approx(0.4))
    assert first.get_ylabel() == "frequency"
    for axes in others:
        assert axes.get_ylim() == first.get_ylim()
        assert axes.images[0].get_clim() == first.images[0].get_clim()
    assert figure.get_suptitle() == "clip $1"

"""Configurations say what is wrong with them."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ast_model import ASTConfig, FrontendConfig


@pytest.mark.parametrize(
    ("stride", "grid"), [(10, (12, 101)), (12, (10, 85)), (14, (9, 73)), (16, (8, 64))]
)
def test_grid_of_ten_seconds_is_the_papers(stride, grid):
    config = ASTConfig(stride=(stride, stride))
    assert config.grid == grid
    assert config.num_tokens == 2 + grid[0] * grid[1]


@given(
    mels=st.integers(1, 200),
    frames=st.integers(1, 1200),
    patch=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    stride=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_grid_counts_the_patches_that_fit(mels, frames, patch, stride):
    if mels < patch[0] or frames < patch[1]:
        with pytest.raises(ValueError, match="smaller than one patch"):
            ASTConfig(num_mel_bins=mels, num_frames=frames, patch=patch, stride=stride)
        return
    config = ASTConfig(num_mel_bins=mels, num_frames=frames, patch=patch, stride=stride)
    for size, kernel, step, count in zip((mels, frames), patch, stride, config.grid, strict=True):
        assert len(range(0, size - kernel + 1, step)) == count


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, "num_classes 0 is not an integer from 1 to 131,072"),
        ({"num_frames": 8}, "num_frames 8 is smaller than one patch of 16"),
        ({"num_mel_bins": 15}, "num_mel_bins 15 is smaller than one patch of 16"),
        ({"width": 100, "heads": 3}, "width 100 cannot be split over 3 heads"),
        ({"patch": (16,)}, "patch"),
        ({"stride": (0, 10)}, "stride 0 is not an integer from 1"),
        ({"pooling": "max"}, "pooling 'max' is unknown"),
        ({"dropout": 1.0}, "dropout"),
        ({"patchout": (12, 0)}, "the grid of 12 x 101 patches; drop 0 to 11 rows"),
        ({"patchout": (0, 101)}, "0 to 100 columns"),
        ({"patchout": (-1, 0)}, "does not fit"),
        ({"patchout": 3}, "must be .rows, columns., two integers"),
        ({"patchout": (1.0, 2)}, "two integers"),
    ],
)
def test_impossible_architecture_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ASTConfig(**changes)


@given(
    num_frames=st.integers(1, 300),
    patch=st.integers(1, 40),
    stride=st.integers(1, 40),
    frames=st.integers(1, 400),
)
def test_unpadded_frames_are_the_least_whole_patches_that_hold_the_clip(
    num_frames, patch, stride, frames
):
    num_frames = max(num_frames, patch)
    config = ASTConfig(num_frames=num_frames, patch=(16, patch), stride=(10, stride))
    ends = [patch + stride * column for column in range(config.grid[1])]  # of 1, 2, … patches
    holding = [end for end in ends if end >= frames]
    own = config.unpadded_frames(frames)
    assert own == holding[0] if holding else ends[-1] <= own <= num_frames


def test_a_list_will_do_for_pairs():
    config = ASTConfig(patch=[16, 16], patchout=[2, 15])
    assert (config.patch, config.patchout) == ((16, 16), (2, 15))


def test_unknown_preset_lists_the_known_ones():
    with pytest.raises(ValueError, match="'large' is unknown; use one of tiny224, small224"):
        ASTConfig.preset("large")


def test_impossible_front_end_is_refused():
    with pytest.raises(ValueError, match="window 'hann' is unknown"):
        FrontendConfig(window="hann")
    with pytest.raises(ValueError, match="std 0 is not positive"):
        FrontendConfig(std=0)


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ASTConfig().width = 3

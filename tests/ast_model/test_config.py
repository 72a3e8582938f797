"""Configurations say what is wrong with them."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ast_model import ASTConfig, FrontendConfig
from ast_model.baseline import BaselineConfig


@pytest.mark.parametrize(
    ("stride", "grid"), [(10, (12, 101)), (12, (10, 85)), (14, (9, 73)), (16, (8, 64))]
)
def test_grid_of_ten_seconds_is_the_papers(stride, grid):
    config = ASTConfig(stride=(stride, stride))
    assert config.grid == grid
    assert config.num_tokens == 2 + grid[0] * grid[1]


@given(
    mels=st.integers(1, 100),
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
        ({"dropout": 1.0}, r"dropout 1.0 is not a number in \[0, 1\)"),
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


@pytest.mark.parametrize("sample_rate", [7_999, 48_001, 16_000.0])
def test_a_rate_that_no_model_hears_at_is_refused(sample_rate):
    with pytest.raises(ValueError, match=r"sample_rate .* is not an integer from 8,000 to 48,000"):
        FrontendConfig(sample_rate=sample_rate)


@pytest.mark.parametrize(
    ("changes", "low", "high"),
    [
        ({"high_freq": 8_001.0}, 20, 8001),
        ({"low_freq": 9_000.0, "high_freq": 8_001.0}, 9000, 8001),
        ({"low_freq": 8_000.0}, 8000, 8000),
        ({"low_freq": 500.0, "high_freq": 500.0}, 500, 500),
        ({"low_freq": 600.0, "high_freq": 500.0}, 600, 500),
        ({"sample_rate": 8_000, "high_freq": 4_000.5}, 20, 4000.5),
    ],
)
def test_mel_edges_that_do_not_fit_the_rate_are_refused_in_one_line(changes, low, high):
    message = rf"^low_freq {low} and high_freq {high} Hz do not fit sample_rate \d+: use [^\n]*$"
    with pytest.raises(ValueError, match=message):
        FrontendConfig(**changes)


def test_the_band_reaches_the_nyquist_frequency_unless_an_edge_is_given():
    assert FrontendConfig().band == (20, 8_000)
    assert FrontendConfig(sample_rate=44_100).band == (20, 22_050)
    assert FrontendConfig(sample_rate=32_000, low_freq=50, high_freq=14e3).band == (50, 14_000)


WRONG = (None, True, "1", [], [1], {}, -1, 2**31, 2**63, 1e308, math.nan, math.inf, -math.inf, 1j)


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        (
            ASTConfig,
            "num_classes num_frames num_mel_bins width depth heads mlp_ratio patch stride dropout "
            "drop_path layer_norm_eps head_layer_norm_eps patchout",
        ),
        (
            FrontendConfig,
            "num_frames num_mel_bins mean std sample_rate padded_share low_freq high_freq",
        ),
        (BaselineConfig, "num_classes num_frames num_mel_bins"),
    ],
)
def test_every_number_of_a_configuration_is_of_its_type_and_in_range(kind, numbers):
    given = {"name": "resnet18", "num_classes": 3, "num_frames": 64, "num_mel_bins": 128}
    sound = given if kind is BaselineConfig else {}
    for name in numbers.split():
        for value in WRONG:
            if (name, value) == ("mean", -1):
                continue
            with pytest.raises(ValueError, match=rf"^{name} ") as caught:
                kind(**sound | {name: value})
            assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (ASTConfig, "pooling"),
        (ASTConfig, "distilled"),
        (ASTConfig, "gradient_checkpointing"),
        (FrontendConfig, "window"),
        (FrontendConfig, "padding"),
    ],
)
def test_every_choice_of_a_configuration_is_one_that_there_is(kind, name):
    for value in (None, 1, "x" * 1000, ["cls"], {}, math.nan):
        with pytest.raises(ValueError, match=rf"^{name} ") as caught:
            kind(**{name: value})
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("kind", "given"), [(ASTConfig, ()), (FrontendConfig, ()), (BaselineConfig, ("resnet18", 3))]
)
def test_an_input_that_no_machine_holds_is_refused(kind, given):
    with pytest.raises(ValueError, match="num_frames 65,536 times num_mel_bins 1,024 is more than"):
        kind(*given, num_frames=2**16, num_mel_bins=1024)


def test_a_grid_that_no_machine_attends_over_is_refused():
    with pytest.raises(ValueError, match=r"^num_tokens [\d,]+ is more than 131,072"):
        ASTConfig(num_frames=2**16, stride=1)


@pytest.mark.parametrize("field", ["layer_norm_eps", "head_layer_norm_eps"])
def test_a_norm_divides_by_more_than_zero(field):
    with pytest.raises(ValueError, match=f"{field} 0 is not a number in"):
        ASTConfig(**{field: 0})


@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:timm/resnet18",
        "hf_hub:a/b",
        "local-dir:/tmp",
        "timm/resnet18",
        "../x",
        "",
        "a.b.c",
        7,
    ],
)
def test_a_baseline_is_named_as_timm_names_its_own_models(name):
    with pytest.raises(ValueError, match="is not that of a model in timm"):
        BaselineConfig(name, 3, 64, 128)
    assert BaselineConfig("tf_efficientnet_b3.ns_jft_in1k", 3, 64, 128).num_frames == 64


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ASTConfig().width = 3

"""Fitting positional grids, against the authors' rule written out index by index."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ast_model.positions import fit_positions

sizes = st.integers(1, 30)


def grid_positions(frequency, time, width=2, special=2):
    """Every patch's embedding says where it stands: (frequency index, time index)."""
    rows = torch.cartesian_prod(torch.arange(frequency), torch.arange(time)).float()
    tokens = torch.full((special, width), -1.0)
    return torch.cat([tokens, rows.reshape(-1, 2)])[None]


@given(frequency=sizes, time=sizes, special=st.integers(0, 2))
@settings(max_examples=50, deadline=None)
def test_the_same_grid_is_the_identity(frequency, time, special):
    positions = grid_positions(frequency, time, special=special)
    fitted = fit_positions(positions, (frequency, time), (frequency, time))
    assert torch.equal(fitted, positions)


@given(old=st.tuples(sizes, sizes), new=st.tuples(sizes, sizes))
@settings(max_examples=50, deadline=None)
def test_special_tokens_stay_and_the_new_grid_is_complete(old, new):
    fitted = fit_positions(grid_positions(*old), old, new)
    assert fitted.shape == (1, 2 + new[0] * new[1], 2)
    assert (fitted[:, :2] == -1).all()


@pytest.mark.parametrize(("old", "new", "start"), [(24, 12, 6), (101, 50, 25), (14, 13, 1)])
def test_a_shorter_axis_keeps_its_middle(old, new, start):
    fitted = fit_positions(grid_positions(3, old), (3, old), (3, new))
    time_of_patch = fitted[0, 2 : 2 + new, 1]
    assert time_of_patch.tolist() == list(range(start, start + new))


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_longer_time_is_interpolated_and_shorter_frequency_cut(mode):
    """DeiT's 24 x 24 into AudioSet's 12 x 101: time first, then the middle of frequency."""
    positions = torch.randn(1, 2 + 24 * 24, 8)
    fitted = fit_positions(positions, (24, 24), (12, 101), mode)
    square = positions[:, 2:].transpose(1, 2).reshape(1, 8, 24, 24)
    corners = {"align_corners": False} if mode == "bilinear" else {}
    wanted = F.interpolate(square, size=(24, 101), mode=mode, **corners)[:, :, 6:18]
    assert torch.equal(fitted[:, 2:], wanted.flatten(2).transpose(1, 2))


def test_wrong_grid_or_mode_is_refused():
    with pytest.raises(ValueError, match=r"do not hold a grid of \(5, 5\)"):
        fit_positions(grid_positions(3, 4), (5, 5), (2, 2))
    with pytest.raises(ValueError, match="mode 'cubic' is unknown"):
        fit_positions(grid_positions(3, 4), (3, 4), (2, 2), mode="cubic")

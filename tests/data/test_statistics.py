"""Mean and standard deviation in one pass."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.statistics import Statistics, moments


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    offset=st.floats(-1e4, 1e4),
    seed=st.integers(0, 100),
)
def test_batching_does_not_matter(sizes, offset, seed):
    generator = torch.Generator().manual_seed(seed)
    batches = [torch.randn(size, 3, generator=generator) + offset for size in sizes]
    values = torch.cat(batches).double()
    mean, std = moments(iter(batches))
    assert mean == pytest.approx(values.mean().item(), rel=1e-9, abs=1e-9)
    assert std == pytest.approx(values.std(correction=0).item(), rel=1e-6)


def test_nothing_has_no_statistics():
    with pytest.raises(ValueError, match="at least one clip"):
        moments([])


def test_with_padding_zeros_are_values_too():
    values = torch.tensor([-8.0, -2.0, -5.0])
    own = Statistics(*moments([values]), padding=0.25)
    with_zero = moments([torch.cat([values, torch.zeros(1)])])
    assert own.with_padding() == pytest.approx(with_zero)

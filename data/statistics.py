"""Mean and standard deviation of a data set's log-mel values, in one pass."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor


class Statistics(NamedTuple):
    """Of the log-mel values of clips, over their own frames."""

    mean: float
    std: float
    padding: float  # share of the input that is not the clips' own frames

    def with_padding(self) -> tuple[float, float]:
        """Mean and standard deviation of the whole input, as the published ones are measured.

        The padding is zeros in the log-mel domain.
        """
        own = 1 - self.padding
        mean = own * self.mean
        return mean, math.sqrt(own * (self.std**2 + self.mean**2) - mean**2)


def moments(batches: Iterable[Tensor]) -> tuple[float, float]:
    """Mean and standard deviation over all values of all batches, of any shape.

    Batches are merged by the parallel form of Welford's update (Chan, Golub, LeVeque 1979) in
    double precision, so the result does not depend on how the data are batched.

    Raises:
        ValueError: there is no value at all.
    """
    count, mean, squares = 0, 0.0, 0.0
    for batch in batches:
        values = batch.double()
        batch_mean = values.mean().item()
        delta = batch_mean - mean
        total = count + values.numel()
        squares += (values - batch_mean).square().sum().item()
        squares += delta**2 * count * values.numel() / total
        mean += delta * values.numel() / total
        count = total
    if not count:
        raise ValueError("statistics of no data; give at least one clip")
    return mean, math.sqrt(squares / count)

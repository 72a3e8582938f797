"""What is meant by a word that does not exist."""

import pytest

from train.cli.spelling import did_you_mean, nearest_first

OPTIONS = ("--epochs", "--warmup-epochs", "--average-epochs", "--out", "--std", "--batch-size")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--epoch", "--epochs"),
        ("EPOCHS", "--epochs"),
        ("--num-epochs", "--epochs"),
        ("--output", "--out"),
        ("--bacth-size", "--batch-size"),
    ],
)
def test_the_likely_ones_are_named(word, meant):
    assert did_you_mean(word, OPTIONS).startswith(f"; did you mean {meant}")


def test_where_none_is_likely_none_is_named():
    assert did_you_mean("--threshold", OPTIONS) == ""


def test_others_keep_their_order():
    assert nearest_first("bb", ["zz", "yy", "bbb"]) == ["bbb", "zz", "yy"]

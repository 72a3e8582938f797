"""Shares of work: together they are the whole, in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.shards import Shard, own_shard, read_shard


@given(st.integers(0, 200), st.integers(1, 40))
def test_the_shares_are_the_whole_in_order_and_of_like_size(things, count):
    shares = [Shard(number, count).of(range(things)) for number in range(1, count + 1)]
    assert [each for share in shares for each in share] == [*range(things)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_shard_is_read():
    assert read_shard("3/8") == Shard(3, 8)
    assert read_shard("8/8").name == "8-of-8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9/8", "there is no shard 9/8; of 8 they are 1/8 to 8/8"),
        ("0/8", "there is no shard 0/8; of 8 they are 1/8 to 8/8"),
        ("1/0", "there is no shard 1/0"),
        ("x", "'x' is not K/N; the third of eight is 3/8"),
        ("3", "is not K/N"),
        ("-1/8", "is not K/N"),
        ("3/8/9", "is not K/N"),
        ("٣/8", "is not K/N"),
    ],
)
def test_a_shard_that_is_none_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        read_shard(text)


def test_of_torchruns_processes_each_has_its_share(monkeypatch):
    assert own_shard(None) == Shard(1, 1)
    assert own_shard(Shard(2, 3)) == Shard(2, 3)
    monkeypatch.setattr("train.shards.world_size", lambda: 4)
    monkeypatch.setattr("train.shards.rank", lambda: 2)
    assert own_shard(None) == Shard(3, 4)
    with pytest.raises(ValueError, match="leave one of the two out"):
        own_shard(Shard(2, 3))

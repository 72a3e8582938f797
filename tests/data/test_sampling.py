"""The order of an epoch: complete, repeatable, by weight, the same for any number of ranks."""

from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from data.manifest import Clip
from data.sampling import balanced_order, clip_weights, epoch_batches

SIZES = {"num_clips": st.integers(1, 200), "batch_size": st.integers(1, 50)}
KEYS = {"seed": st.integers(0, 5), "epoch": st.integers(0, 5)}


def clips(*targets: tuple[int, ...]) -> list[Clip]:
    return [Clip(Path(f"{number}.wav"), classes) for number, classes in enumerate(targets)]


@given(**SIZES, **KEYS)
def test_an_epoch_takes_every_clip_once(num_clips, batch_size, seed, epoch):
    batches = epoch_batches(num_clips, batch_size, seed, epoch)
    assert Counter(chain(*batches)) == Counter(range(num_clips))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert epoch_batches(num_clips, batch_size, seed, epoch) == batches


def test_the_orders_are_those_that_earlier_runs_had():
    assert epoch_batches(10, 4, seed=3, epoch=2) == [[8, 1, 5, 7], [9, 4, 6, 3], [0, 2]]
    balanced = epoch_batches(10, 4, seed=3, epoch=2, weights=np.arange(1, 11))
    assert balanced == [[2, 14, 28, 35], [47, 59, 69, 79], [88, 93]]


@given(**SIZES, **KEYS, chosen=st.slices(20))
def test_a_slice_of_the_batches_is_that_of_their_list(num_clips, batch_size, seed, epoch, chosen):
    batches = epoch_batches(num_clips, batch_size, seed, epoch)
    assert batches[chosen] == list(batches)[chosen]
    assert sum(map(len, batches[chosen])) == len(list(chain(*batches[chosen])))
    assert batches[-1] == list(batches)[-1]
    assert batches != list(batches)[1:]
    with pytest.raises(IndexError):
        batches[len(batches)]


def test_batches_are_lists_of_plain_integers_for_a_loader():
    loader = DataLoader(range(10), batch_sampler=epoch_batches(10, 4, 3, 2)[1:], collate_fn=list)
    assert (len(loader), list(loader)) == (2, [[9, 4, 6, 3], [0, 2]])
    assert {type(index) for batch in epoch_batches(10, 4, 3, 2) for index in batch} == {int}


def test_epochs_seeds_and_kinds_of_sampling_differ_in_order():
    keys = ((0, 0), (0, 1), (1, 0))
    orders = {str(list(epoch_batches(100, 10, *key))) for key in keys}
    orders |= {str(list(epoch_batches(100, 10, *key, weights=np.ones(100)))) for key in keys}
    assert len(orders) == 6


def test_clip_weights_are_the_published_ones():
    weights = clip_weights(clips((0,), (0,), (0, 2), (2, 1)), num_classes=4)
    of_class = [1000 / 3.01, 1000 / 1.01, 1000 / 2.01]
    expected = [of_class[0], of_class[0], of_class[0] + of_class[2], of_class[1] + of_class[2]]
    np.testing.assert_allclose(weights, expected, rtol=1e-12)


def test_a_clip_without_class_has_no_weight_and_is_refused():
    with pytest.raises(ValueError, match=r"1 of 3 clips have no class \(first: 1.wav\)"):
        clip_weights(clips((0,), (), (1,)), 2)


@pytest.mark.parametrize("classes", [(2,), (-1,)])
def test_a_class_beyond_the_last_is_refused(classes):
    with pytest.raises(ValueError, match="expected 0 to 1"):
        clip_weights(clips((0,), classes), 2)


def test_balanced_draws_are_in_proportion_to_the_weights():
    weights = np.array([1.0, 0.0, 5.0, 3.0, 0.0])
    drawn = np.bincount(balanced_order(weights, 90_000, 0, 0), minlength=5) / 90_000
    np.testing.assert_allclose(drawn, weights / 9, atol=0.005)  # three standard deviations
    assert drawn[1] == drawn[4] == 0


def test_each_draw_has_an_index_of_its_own_that_tells_the_clip():
    weights = np.array([1.0, 100.0, 1.0])
    indices = list(chain(*epoch_batches(3, 2, 4, 5, weights)))
    assert [index % 3 for index in indices] == balanced_order(weights, 3, 4, 5).tolist()
    assert len(set(indices)) == 3 > len({index % 3 for index in indices})


def test_balanced_sampling_hears_a_rare_class_as_often_as_a_common_one():
    corpus = clips(*[(0,)] * 990, *[(1,)] * 10)
    order = chain(*epoch_batches(1_000, 12, 0, 0, clip_weights(corpus, 2)))
    heard = Counter(corpus[index % 1_000].targets for index in order)
    assert 400 < heard[(1,)] < 600


@given(**SIZES, **KEYS, world_size=st.integers(1, 9), balanced=st.booleans())
def test_ranks_together_take_the_batches_of_one_process(
    num_clips, batch_size, seed, epoch, world_size, balanced
):
    weights = np.arange(1, num_clips + 1) if balanced else None
    whole = epoch_batches(num_clips, batch_size, seed, epoch, weights)
    shards = [
        epoch_batches(num_clips, batch_size, seed, epoch, weights, rank, world_size)
        for rank in range(world_size)
    ]
    assert [list(chain(*batch)) for batch in zip(*shards, strict=True)] == whole
    for batch in zip(*shards, strict=True):
        sizes = [len(shard) for shard in batch]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("rank", "world_size"), [(2, 2), (-1, 2), (0, 0)])
def test_a_rank_that_does_not_exist_is_refused(rank, world_size):
    with pytest.raises(ValueError, match=f"rank {rank} of {world_size}"):
        epoch_batches(10, 4, 0, 0, rank=rank, world_size=world_size)


def test_weights_of_another_corpus_are_refused():
    with pytest.raises(ValueError, match="3 weights for 10 clips"):
        epoch_batches(10, 4, 0, 0, np.ones(3))

"""Patches that resemble each other become one: which ones, and what the model makes of them."""

from itertools import chain, pairwise

import pytest
import torch
import torch.nn.functional as F

from ast_model import AST, ASTConfig
from ast_model.token_merging import LEAST_SHARE, merge, merging_schedule


def model(pooling="cls", keep=1.0, **changes):
    torch.manual_seed(0)
    values = {"num_classes": 4, "num_frames": 64, "num_mel_bins": 32, "width": 24, "heads": 3}
    made = AST(ASTConfig(**values | {"depth": 6, "pooling": pooling} | changes)).eval()
    for parameter in made.parameters():  # larger than initial ones, so that tokens differ
        parameter.data += torch.randn_like(parameter) / 10
    made.merge_tokens(keep)
    return made


def merged_by_the_formula(tokens, sizes, special, left):
    """Of one clip: lists of (token, size), the special ones first, then in any order."""
    first = list(range(special, len(tokens), 2))
    second = list(range(special + 1, len(tokens), 2))
    pairs = []
    for index in first:
        cosines = [F.cosine_similarity(tokens[index], tokens[other], dim=0) for other in second]
        best = max(range(len(second)), key=cosines.__getitem__)
        pairs.append((cosines[best].item(), index, second[best]))
    pairs.sort(reverse=True)
    groups = {index: [index] for index in range(len(tokens))}
    for _, index, into in pairs[: len(tokens) - special - left]:
        groups[into].append(index)
        del groups[index]
    found = []
    for members in groups.values():
        size = sum(sizes[member] for member in members)
        total = sum(sizes[member] * tokens[member] for member in members)
        found.append((total / size, size))
    return found


@pytest.mark.parametrize("special", [1, 2])
@pytest.mark.parametrize(("patches", "left"), [(10, 9), (10, 5), (11, 5), (11, 7), (2, 1)])
def test_the_most_similar_pairs_become_their_weighted_mean(patches, left, special):
    torch.manual_seed(patches + left)
    tokens = torch.randn(3, special + patches, 5)
    sizes = torch.randint(1, 4, tokens.shape[:2]).float()
    sizes[:, :special] = 1
    found, found_sizes = merge(tokens, sizes, special, left)
    assert found.shape == (3, special + left, 5)
    for clip in range(3):
        expected = merged_by_the_formula(tokens[clip], sizes[clip], special, left)
        for index, (token, size) in enumerate(expected):
            distances = (found[clip] - token).norm(dim=1)
            nearest = index if index < special else distances.argmin()
            assert distances[nearest] < 1e-5
            assert found_sizes[clip, nearest] == size
    assert torch.equal(found[:, :special], tokens[:, :special])
    assert torch.equal(found_sizes.sum(dim=1), sizes.sum(dim=1))


def test_tokens_of_16_bits_are_compared_in_32():
    """The cosines of the first three with the fourth are 1 but for less than 3e-4."""
    tokens = torch.tensor([[1.0, 0.02], [1.0, 0.0], [1.0, 0.014], [-1.0, 0.0], [1.0, 0.025]])
    with torch.autocast("cpu", torch.bfloat16):
        found, sizes = merge(tokens[None], None, 0, 4)
    assert sizes.sum() == 5
    assert torch.isclose(found, torch.tensor([1.0, 0.007])).all(dim=-1).any()
    assert merge(tokens[None].bfloat16(), None, 0, 4)[0].dtype == torch.bfloat16


@pytest.mark.parametrize("depth", [1, 2, 5, 12, 24])
@pytest.mark.parametrize("keep", [LEAST_SHARE, 0.3, 0.5, 0.9, 0.999])
def test_the_last_block_sees_the_share_and_no_merge_takes_more_than_half(depth, keep):
    for patches in (1, 2, 3, 5, 25, 108, 1212):
        schedule = merging_schedule(patches, keep, depth)
        assert len(schedule) == depth
        counts = [patches, *chain.from_iterable(schedule)]
        assert counts[-1] == max(1, round(patches * keep))
        for before, left in pairwise(counts):
            assert before // 2 <= left < before
    assert not any(merging_schedule(1212, 1.0, depth))


def test_blocks_see_as_many_tokens_as_the_schedule_says():
    ast = model(depth=12, keep=0.5, patch=(8, 8), stride=(4, 4))
    patches, seen = ast.config.num_tokens - 2, []
    for block in ast.blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1] - 2))
    with torch.no_grad():
        ast(torch.randn(2, 64, 32))
    third, two_thirds, half = (round(patches * 0.5**share) for share in (1 / 3, 2 / 3, 1))
    assert seen == [patches] + 2 * [third] + 2 * [two_thirds] + 7 * [half]


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["cls", "patches"])
@pytest.mark.parametrize("distilled", [True, False])
def test_merging_equal_tokens_changes_nothing(pooling, distilled, monkeypatch):
    """A token of size n counts n times, in attention and in the mean over patches."""
    ast = model(pooling, distilled=distilled, patch=(16, 16), stride=(16, 16))  # 2 x 4 patches
    ast.positions.zero_()
    columns = torch.randn(3, 2, 1, 16, 32).expand(-1, -1, 2, -1, -1)  # neighbours are equal
    fbank = columns.flatten(1, 3)
    expected = ast(fbank)
    schedule = [[5], [], [], [], [], []]  # three of the four pairs merge
    monkeypatch.setattr("ast_model.model.merging_schedule", lambda *arguments: schedule)
    torch.testing.assert_close(ast(fbank), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["cls", "patches"])
def test_one_is_bit_identical_to_never_asked_and_less_is_not(pooling):
    ast, fbank = model(pooling), torch.randn(2, 64, 32)
    expected = ast(fbank)
    ast.merge_tokens(0.5)
    assert not torch.allclose(ast(fbank), expected, atol=1e-4)
    ast.merge_tokens(1)
    assert torch.equal(ast(fbank), expected)


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["cls", "patches"])
@pytest.mark.parametrize(("frames", "patch"), [(64, (16, 16)), (40, (16, 16)), (50, (32, 4))])
def test_a_clip_scores_in_a_batch_as_alone(pooling, frames, patch):
    ast = model(pooling, keep=0.4, patch=patch, stride=(10, min(10, patch[1])))
    fbank = torch.randn(4, frames, 32)
    together = ast(fbank, pad=False)
    alone = torch.cat([ast(clip[None], pad=False) for clip in fbank])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_what_shows_single_patches_has_all_of_them():
    ast, fbank = model(keep=0.5), torch.randn(2, 64, 32)
    merging = ast.forward_features(fbank), ast.attention(fbank), ast.attention_map(fbank)
    ast.merge_tokens(1)
    plain = ast.forward_features(fbank), ast.attention(fbank), ast.attention_map(fbank)
    assert all(map(torch.equal, merging, plain))


def test_training_has_all_tokens():
    ast, fbank = model(keep=0.5).train(), torch.randn(2, 64, 32)
    found = ast(fbank)
    ast.merge_tokens(1)
    assert torch.equal(found, ast(fbank))


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["cls", "patches"])
def test_in_bfloat16_it_follows_float32(pooling):
    ast, fbank = model(pooling, keep=0.5), torch.randn(2, 64, 32)
    expected = ast(fbank)
    with torch.autocast("cpu", torch.bfloat16):
        found = ast(fbank).float()
    assert (found - expected).norm() / expected.norm() < 0.1
    assert ast.bfloat16()(fbank.bfloat16()).dtype == torch.bfloat16


@torch.no_grad()
def test_it_compiles_as_one_graph():
    ast, fbank = model(keep=0.5, depth=2), torch.randn(2, 64, 32)
    torch.compiler.reset()
    compiled = torch.compile(ast, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(fbank), ast(fbank), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("keep", [0, -0.5, 0.1, 1.01, float("nan")])
def test_a_share_out_of_range_is_told_what_is_allowed(keep):
    with pytest.raises(ValueError, match="cannot be kept; use one from 0"):
        model().merge_tokens(keep)

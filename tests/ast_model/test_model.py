"""The network: sizes, shapes, gradients, and parity with transformers' port."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ast_model import AST, ASTConfig


def small(**changes):
    """An AST of two narrow blocks, for speed."""
    return ASTConfig(
        **{"num_classes": 4, "num_frames": 64, "num_mel_bins": 32, "width": 24, "heads": 3}
        | {"depth": 2}
        | changes
    )


@pytest.mark.parametrize(
    ("num_frames", "num_classes", "tokens", "parameters"),
    [(1024, 527, 1214, 86_594_063), (512, 50, 602, 85_757_234), (128, 35, 146, 85_395_491)],
)
def test_published_sizes(num_frames, num_classes, tokens, parameters):
    config = ASTConfig.preset("base384", num_frames=num_frames, num_classes=num_classes)
    with torch.device("meta"):
        model = AST(config)
    assert config.num_tokens == tokens
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("preset", "width", "heads"),
    [("tiny224", 192, 3), ("small224", 384, 6), ("base224", 768, 12), ("base384", 768, 12)],
)
def test_presets_are_deits_sizes(preset, width, heads):
    config = ASTConfig.preset(preset, num_classes=50)
    assert (config.width, config.heads, config.depth, config.num_classes) == (width, heads, 12, 50)


def test_the_heads_norm_has_another_eps_than_the_backbones():
    """A quirk of the authors' code: timm's 1e-6 below, PyTorch's 1e-5 in the head."""
    model = AST(small())
    norms = {name: m.eps for name, m in model.named_modules() if isinstance(m, torch.nn.LayerNorm)}
    assert norms.pop("head_norm") == 1e-5
    assert len(norms) == 2 * 2 + 1
    assert set(norms.values()) == {1e-6}


@given(
    mels=st.integers(4, 40),
    frames=st.integers(6, 70),
    stride=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    distilled=st.booleans(),
    pooling=st.sampled_from(["cls", "patches"]),
)
@settings(max_examples=25, deadline=None)
def test_any_input_from_one_patch_up(mels, frames, stride, distilled, pooling):
    config = small(
        num_mel_bins=mels,
        num_frames=frames,
        patch=(4, 6),
        stride=stride,
        distilled=distilled,
        pooling=pooling,
        depth=1,
    )
    model = AST(config)
    fbank = torch.randn(2, frames, mels)
    assert model(fbank).shape == (2, 4)
    assert model.forward_features(fbank).shape == (2, config.num_tokens, 24)
    assert model.embed(fbank).shape == (2, 24)


def test_patches_are_frequency_major():
    """Sound in one mel band and one stretch of time changes exactly that patch's token."""
    config = small(stride=(16, 16))  # 2 x 4 patches
    embedding = AST(config).patch_embedding
    silent, sounding = torch.zeros(1, 64, 32), torch.zeros(1, 64, 32)
    sounding[:, 32:48, 16:] = 1.0  # time index 2, frequency index 1
    changed = (embedding(sounding) != embedding(silent)).any(dim=2)[0]
    assert changed.nonzero().flatten().tolist() == [1 * 4 + 2]


@pytest.mark.parametrize("distilled", [True, False])
@pytest.mark.parametrize("pooling", ["cls", "patches"])
def test_embed_is_what_the_head_receives(distilled, pooling):
    model = AST(small(distilled=distilled, pooling=pooling)).eval()
    fbank = torch.randn(2, 64, 32)
    special = 2 if distilled else 1
    tokens = model.forward_features(fbank)
    wanted = tokens[:, special:] if pooling == "patches" else tokens[:, :special]
    torch.testing.assert_close(model.embed(fbank), wanted.mean(dim=1))
    assert torch.equal(model(fbank), model.head(model.head_norm(model.embed(fbank))))


@pytest.mark.parametrize(("pooling", "tokens"), [("cls", 2), ("patches", 12)])
def test_the_last_block_computes_only_tokens_that_the_head_sees(pooling, tokens):
    """Value and gradients are those of computing them all."""
    model = AST(small(pooling=pooling)).double()
    fbank = torch.randn(2, 64, 32, dtype=torch.float64)
    shapes = []
    model.blocks[-1].mlp.register_forward_hook(lambda *call: shapes.append(tuple(call[2].shape)))
    results = []
    for vector in (model._pooled(model.forward_features(fbank)).mean(dim=1), model.embed(fbank)):
        gradients = torch.autograd.grad(vector.square().sum(), [*model.blocks.parameters()])
        results.append([vector, *gradients])
    for plain, found in zip(*results, strict=True):
        torch.testing.assert_close(found, plain)
    assert shapes == [(2, 12, 24), (2, tokens, 24)]


@pytest.mark.parametrize(("gradient", "parts"), [(True, [7]), (False, [3, 3, 1])])
def test_a_cpu_takes_a_few_clips_at_a_time_without_gradients(monkeypatch, gradient, parts):
    model = AST(small()).eval()
    monkeypatch.setattr("ast_model.model.BYTES_AT_ONCE", 3.5 * 4 * 12 * 4 * 24)  # 3.5 clips' hidden
    seen = sequences(model)
    fbank = torch.randn(7, 64, 32)
    with torch.set_grad_enabled(gradient):
        vectors = model.embed(fbank)
    assert [len(tokens) for tokens in seen] == parts
    for vector, clip in zip(vectors, fbank, strict=True):
        torch.testing.assert_close(vector, model.embed(clip[None])[0])


def test_attention_rows_sum_to_one_and_explain_the_tokens():
    model = AST(small()).eval()
    fbank = torch.randn(2, 64, 32)
    maps = model.attention(fbank)
    assert maps.shape == (2, 2, 3, model.config.num_tokens, model.config.num_tokens)
    assert torch.allclose(maps.sum(dim=-1), torch.ones(()), atol=1e-5)
    first = model.blocks[0]
    tokens = first.attention_norm(model._embed_patches(fbank))
    value = first.attention._split(tokens)[2]
    mixed = (maps[:, 0] @ value).transpose(1, 2).flatten(2)
    assert torch.allclose(first.attention.projection(mixed), first.attention(tokens), atol=1e-6)


def first_columns(tokens, config, columns):
    special = config.num_special_tokens
    grid = tokens[:, special:].unflatten(1, config.grid)[:, :, :columns]
    return torch.cat([tokens[:, :special], grid.flatten(1, 2)], dim=1)


@pytest.mark.parametrize(("frames", "columns"), [(16, 1), (25, 1), (26, 2), (60, 5), (64, 5)])
def test_an_unpadded_clip_leaves_each_patch_where_it_is_in_the_padded_clip(frames, columns):
    model = AST(small()).eval()
    fbank = torch.randn(2, frames, 32)
    padded = torch.cat([fbank, torch.zeros(2, 64 - frames, 32)], dim=1)
    tokens = model._embed_patches(fbank, pad=False)
    wanted = first_columns(model._embed_patches(padded), model.config, columns)
    torch.testing.assert_close(tokens, wanted)
    assert model(fbank, pad=False).shape == (2, 4)


@pytest.mark.parametrize("shape", [(2, 15, 32), (2, 65, 32), (2, 40, 31), (40, 32)])
def test_an_unpadded_clip_still_has_bounds(shape):
    with pytest.raises(ValueError, match=r"takes \(batch, 16 to 64 frames, 32 mel bins\)"):
        AST(small())(torch.zeros(shape), pad=False)


@pytest.mark.parametrize("distilled", [True, False])
@pytest.mark.parametrize("pooling", ["cls", "patches"])
def test_attention_map_is_the_rollout_of_all_maps(distilled, pooling):
    """Against the definition: the product of (map + identity) / 2, from the first block up."""
    model = AST(small(distilled=distilled, pooling=pooling, depth=3)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # far from uniform attention
    fbank = torch.randn(2, 64, 32)
    maps = model.attention(fbank).mean(dim=2)
    special = model.config.num_special_tokens
    product = identity = torch.eye(maps.shape[-1])
    for index in range(3):
        product = (maps[:, index] + identity) / 2 @ product
    for kind, flow in (("rollout", product), ("last", maps[:, -1])):
        rows = flow[:, special:] if pooling == "patches" else flow[:, :special]
        wanted = rows.mean(dim=1)[:, special:].unflatten(1, model.config.grid)
        wanted = wanted / wanted.sum(dim=(1, 2), keepdim=True)
        found = model.attention_map(fbank, kind)
        assert found.shape == (2, *model.config.grid)
        torch.testing.assert_close(found, wanted)


def test_attention_map_fits_an_unpadded_clip():
    model = AST(small()).eval()
    found = model.attention_map(torch.randn(2, 36, 32), pad=False)
    assert found.shape == (2, 2, 3)
    torch.testing.assert_close(found.sum(dim=(1, 2)), torch.ones(2))


def sequences(model):
    """The sequences that the blocks see from now on, (B, N, D) each."""
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    return seen


@given(rows=st.integers(0, 1), columns=st.integers(0, 4), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_patchout_leaves_whole_rows_and_columns_out(rows, columns, seed):
    model = AST(small(patchout=(rows, columns), depth=1)).train()
    seen = sequences(model)
    fbank = torch.randn(3, 64, 32)
    torch.manual_seed(seed)
    model(fbank).sum().backward()
    whole = AST(small(depth=1))
    whole.load_state_dict(model.state_dict())
    tokens = whole._embed_patches(fbank)
    torch.testing.assert_close(seen[0][:, :2], tokens[:, :2])
    kept = seen[0][:, 2:].unflatten(1, (2 - rows, 5 - columns))
    grid = tokens[:, 2:].unflatten(1, (2, 5))
    where = (kept[0, :, :, None, None] - grid[0]).abs().amax(-1).flatten(2).argmin(-1)
    of_rows, of_columns = (where // 5)[:, 0], (where % 5)[0]
    assert of_rows.tolist() == sorted(set(of_rows.tolist()))
    assert of_columns.tolist() == sorted(set(of_columns.tolist()))
    torch.testing.assert_close(kept, grid[:, of_rows][:, :, of_columns])


def test_patchout_is_drawn_anew_from_torchs_generator():
    model = AST(small(patchout=(1, 2))).train()
    fbank = torch.randn(2, 64, 32)
    drawn = []
    for seed in (0, 1, 2, 3, 0):
        torch.manual_seed(seed)
        drawn.append(model(fbank))
    assert torch.equal(drawn[0], drawn[4])
    assert any(not torch.equal(drawn[0], other) for other in drawn[1:4])


def test_patchout_leaves_evaluation_alone():
    model = AST(small(patchout=(1, 3))).eval()
    plain = AST(small()).eval()
    plain.load_state_dict(model.state_dict())
    fbank = torch.randn(2, 64, 32)
    assert torch.equal(model(fbank), plain(fbank))
    assert torch.equal(model.attention_map(fbank), plain.attention_map(fbank))


def test_a_grid_with_gaps_is_refused():
    model = AST(small(patchout=(1, 2))).train()
    with pytest.raises(ValueError, match=r"patchout \(1, 2\) leaves no whole grid"):
        model.attention_map(torch.randn(2, 64, 32))
    with pytest.raises(ValueError, match="call eval"):
        model.patch_grid(model.forward_features(torch.randn(2, 64, 32)))


def test_patchout_leaves_a_short_clip_a_column():
    model = AST(small(patchout=(1, 4))).train()
    assert model.forward_features(torch.randn(2, 26, 32), pad=False).shape == (2, 3, 24)


def test_every_parameter_receives_a_gradient():
    model = AST(small())
    model(torch.randn(2, 64, 32)).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # a patch-token mean would leave CLS and DIST out of the last block only: none here
    assert without == []


def test_gradient_checkpointing_changes_nothing_but_memory():
    torch.manual_seed(0)
    plain = AST(small())
    economical = AST(small(gradient_checkpointing=True))
    economical.load_state_dict(plain.state_dict())
    fbank = torch.randn(2, 64, 32)
    for model in (plain, economical):
        model.train()(fbank).square().sum().backward()
    for ours, theirs in zip(plain.parameters(), economical.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_dropout_and_drop_path_are_off_by_default_and_in_evaluation():
    fbank = torch.randn(2, 64, 32)
    default = AST(small()).train()
    assert torch.equal(default(fbank), default(fbank))
    dropping = AST(small(dropout=0.3, drop_path=0.3)).train()
    assert not torch.equal(dropping(fbank), dropping(fbank))
    dropping.eval()
    assert torch.equal(dropping(fbank), dropping(fbank))


def test_drop_path_keeps_the_expectation():
    block = AST(small(drop_path=0.5)).train().blocks[-1]
    kept = block._drop_path(torch.ones(20_000, 1, 1))
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert kept.mean().item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("shape", [(2, 63, 32), (2, 64, 31), (64, 32), (2, 1, 64, 32)])
def test_wrong_input_says_what_was_expected(shape):
    with pytest.raises(ValueError, match=r"expected|takes \(batch, 64 frames, 32 mel bins\)"):
        AST(small())(torch.zeros(shape))


def test_two_clips_can_be_learned_by_heart():
    torch.manual_seed(0)
    model = AST(small(num_classes=2))
    fbank, targets = torch.randn(2, 64, 32), torch.tensor([0, 1])
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(100):
        loss = torch.nn.functional.cross_entropy(model(fbank), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-2


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    model = AST(small()).eval()
    fbank = torch.randn(2, 64, 32)
    wanted = model(fbank)
    assert torch.allclose(model.cuda()(fbank.cuda()).cpu(), wanted, atol=1e-4)


@pytest.mark.precision
@pytest.mark.parametrize("tokens", [100, 1300])
def test_attention_in_bfloat16_follows_float32(tokens):
    """Forward and backward, by matrix products and by the fused kernel."""
    torch.manual_seed(0)
    attention = AST(small(width=96)).blocks[0].attention
    torch.nn.init.normal_(attention.qkv.weight, std=0.2)
    tokens = torch.randn(2, tokens, 96)
    answers = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = attention(tokens)
        out.float().square().sum().backward()
        answers.append((out.float(), attention.qkv.weight.grad.clone()))
        attention.zero_grad()
    for plain, fast in zip(*answers, strict=True):
        assert 0 < (fast - plain).norm() < 0.03 * plain.norm()


def fused_calls(monkeypatch, attention, tokens, **autocast):
    """How often the fused kernel runs."""
    calls, fused = [], torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        "ast_model.model.F.scaled_dot_product_attention",
        lambda *parts, **more: calls.append(1) or fused(*parts, **more),
    )
    with torch.autocast("cpu", torch.bfloat16, **autocast):
        attention(tokens)
    monkeypatch.undo()
    return len(calls)


@pytest.mark.precision
def test_attention_is_fused_but_for_training_in_bfloat16_on_few_tokens(monkeypatch):
    attention = AST(small(width=96)).blocks[0].attention
    few, many = torch.randn(1, 1280, 96), torch.randn(1, 1281, 96)
    assert fused_calls(monkeypatch, attention, few, enabled=False) == 1
    assert fused_calls(monkeypatch, attention, many, enabled=True) == 1
    assert fused_calls(monkeypatch, attention, few, enabled=True) == 0
    with torch.no_grad():
        assert fused_calls(monkeypatch, attention, few, enabled=True) == 1


@pytest.mark.precision
@pytest.mark.parametrize("patch, stride", [((16, 16), (10, 10)), ((32, 4), (32, 2))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_patch_embedding_is_the_convolution_that_holds_its_parameters(patch, stride, dtype):
    embedding = AST(small(patch=patch, stride=stride)).patch_embedding.to(dtype)
    torch.nn.init.normal_(embedding.projection.bias)
    fbank = torch.randn(2, 64, 32).to(dtype)
    image = fbank.unsqueeze(1).transpose(2, 3)  # frequency is the height
    wanted = embedding.projection(image).flatten(2).transpose(1, 2)
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}[dtype]
    torch.testing.assert_close(embedding(fbank), wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("training", [False, True])
def test_it_compiles_as_one_graph(training):
    """`fullgraph` refuses any break; the graph runs uncompiled, so that no compiler is needed."""
    model = AST(small()).train(training)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    fbank = torch.randn(2, 64, 32)
    torch.testing.assert_close(compiled(fbank), model(fbank))
    torch._dynamo.reset()


def test_in_float16_it_follows_float32():
    torch.manual_seed(0)
    model = AST(small()).eval()
    fbank = torch.randn(2, 64, 32)
    wanted = model(fbank)
    found = model.half()(fbank.half())
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), wanted, atol=2e-3, rtol=0)


def test_without_memory_nothing_is_initialised(monkeypatch):
    """PyTorch would import its compiler for it: seconds, whenever a model is loaded."""
    monkeypatch.setattr("torch.nn.init.trunc_normal_", None)
    with torch.device("meta"):
        assert AST(ASTConfig.preset("tiny224", depth=1)).positions.is_meta

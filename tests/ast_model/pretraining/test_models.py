"""SSAST and MAE: losses by the formulas, what the encoder sees, gradients, compilation, errors."""

from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from ast_model import AST, ASTConfig
from ast_model.pretraining import MAE, SSAST, PretrainingConfig, pretraining_model
from ast_model.pretraining.masks import hidden_first

ENCODER = ASTConfig(
    num_classes=1, num_frames=100, num_mel_bins=80, width=24, depth=2, heads=3, stride=(16, 16)
)
GRID = 5, 6
CONFIGS = {
    **{loss: PretrainingConfig("ssast", ENCODER, loss) for loss in ("contrastive", "joint")},
    "reconstruction": PretrainingConfig("ssast", ENCODER, "reconstruction"),
    "mae": PretrainingConfig("mae", ENCODER, "reconstruction", 0.8, False),
}


def batch(clips=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    fbank = torch.randn(clips, 100, 80, generator=generator)
    return fbank, torch.arange(clips) + 5


def made(name, seed=0):
    torch.manual_seed(seed)
    return pretraining_model(CONFIGS[name])


def patch_values(fbank, row, column):
    """Of one clip (T, M), by its definition: frequency first."""
    return fbank[16 * column : 16 * column + 16, 16 * row : 16 * row + 16].T.flatten()


def hidden_of(config, seed, draw):
    order = hidden_first(torch.tensor([seed]), GRID, config.clusters, draw)[0]
    return [divmod(int(place), GRID[1]) for place in order[: config.num_masked]]


def tokens_of(model, fbank, places):
    """All patch tokens of one clip with those at `places` replaced, one after the other."""
    encoder = model.encoder
    kernel = encoder.patch_embedding.projection
    rows = []
    for row in range(GRID[0]):
        for column in range(GRID[1]):
            token = kernel.weight.flatten(1) @ patch_values(fbank, row, column) + kernel.bias
            rows.append(model.mask_embedding[0, 0] if (row, column) in places else token)
    tokens = torch.stack([encoder.cls_token[0, 0], encoder.dist_token[0, 0], *rows])
    tokens = (tokens + encoder.positions[0])[None]
    for block in encoder.blocks:
        tokens = block(tokens)
    return encoder.norm(tokens)[0, 2:]


def by_formulas(model, fbank, seed):
    """Contrastive loss, accuracy and reconstruction loss of one clip, in plain loops."""
    config, total, right, error = model.config, 0.0, 0, 0.0
    for draw in (0, 1):
        places = hidden_of(config, seed, draw)
        tokens = tokens_of(model, fbank, places)
        hidden = [tokens[row * GRID[1] + column] for row, column in places]
        true = [patch_values(fbank, *place) for place in places]
        if draw == 0:
            predicted = [model.contrastive_head(token) for token in hidden]
            for number, values in enumerate(true):
                scores = torch.stack([values @ each for each in predicted])
                total -= float(scores[number] - scores.logsumexp(0)) / len(true)
                right += int(scores.argmax()) == number
        else:
            for token, values in zip(hidden, true, strict=True):
                made = model.reconstruction_head(token)
                error += float(((made - values) ** 2).mean()) / len(true)
    return total, right / len(true), error


@torch.no_grad()
def test_ssast_has_the_losses_of_the_formulas():
    model = made("joint")
    fbank, seeds = batch()
    found = model(fbank, seeds)
    for clip, seed in enumerate(seeds.tolist()):
        contrastive, accuracy, reconstruction = by_formulas(model, fbank[clip], seed)
        values = [float(each[clip]) for each in found]
        expected = contrastive + 10 * reconstruction, contrastive, reconstruction, accuracy
        assert values == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_mae_has_the_loss_of_the_formulas():
    model = made("mae")
    fbank, seeds = batch()
    found = model(fbank, seeds)
    assert torch.equal(found.loss, found.reconstruction)
    assert not found.contrastive.any()
    assert not found.accuracy.any()
    picture, mask = model.reconstruct(fbank, seeds)
    for clip, seed in enumerate(seeds.tolist()):
        error = 0.0
        for place in hidden_of(model.config, seed, 0):
            true, seen = patch_values(fbank[clip], *place), patch_values(picture[clip], *place)
            deviation = (true.var() + 1e-6).sqrt()  # of the sample, as AudioMAE's code
            error += float((((seen - true) / deviation) ** 2).mean())
        assert float(found.loss[clip]) == pytest.approx(error / model.config.num_masked, rel=1e-3)
        assert int(mask[clip].sum()) == model.config.num_masked


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_but_the_encoders_head_takes_a_gradient(name):
    model = made(name)
    model(*batch()).loss.mean().backward()
    without = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    # the positions of patches that no clip of this batch hides or shows are few
    assert without == {"encoder." + n for n in ("head.weight", "head.bias", *HEAD_NORM)}


HEAD_NORM = ("head_norm.weight", "head_norm.bias")


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_what_is_hidden_is_not_seen(name):
    model, (fbank, seeds) = made(name).eval(), batch(1)
    draw = 0 if name in ("contrastive", "mae") else 1
    changed = fbank.clone()
    for row, column in hidden_of(model.config, int(seeds[0]), draw):
        changed[0, 16 * column : 16 * column + 16, 16 * row : 16 * row + 16] += 3
    before, after = (tokens(model, each, seeds, draw) for each in (fbank, changed))
    assert torch.equal(before, after)
    assert not torch.equal(before, tokens(model, fbank + 0.1, seeds, draw))


def tokens(model, fbank, seeds, draw):
    """What the heads get of the hidden patches."""
    if isinstance(model, MAE):
        return model._made(fbank, seeds)[0]
    return model._hidden(fbank, seeds, draw)[0]


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "contrastive"])
@torch.no_grad()
def test_a_reconstruction_keeps_what_was_seen(name):
    model, (fbank, seeds) = made(name), batch()
    picture, mask = model.reconstruct(fbank, seeds)
    assert picture.shape == fbank.shape
    assert mask.shape == (3, *GRID)
    assert mask.flatten(1).sum(1).tolist() == [model.config.num_masked] * 3
    cells = mask.transpose(1, 2).repeat_interleave(16, 1).repeat_interleave(16, 2)
    hidden = torch.zeros_like(fbank, dtype=torch.bool)
    hidden[:, : cells.shape[1], : cells.shape[2]] = cells
    assert torch.equal(picture[~hidden], fbank[~hidden])
    assert (picture[hidden] != fbank[hidden]).float().mean() > 0.99


@pytest.mark.parametrize("name", CONFIGS)
def test_losses_are_float32_under_autocast_and_near_those_in_float32(name):
    model, inputs = made(name), batch()
    with torch.no_grad():
        plain = model(*inputs)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(*inputs)
    assert rounded.loss.dtype == torch.float32
    torch.testing.assert_close(rounded.loss, plain.loss, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", CONFIGS)
def test_two_clips_are_learnt(name):
    model, inputs = made(name), batch(2)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    first = float(model(*inputs).loss.mean().detach())
    for _ in range(60):
        loss = model(*inputs).loss.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.8 * first


@pytest.mark.parametrize("name", ["joint", "mae"])
def test_it_compiles_as_one_graph(name):
    model = made(name)
    explained = torch._dynamo.explain(model)(*batch())
    torch._dynamo.reset()
    assert explained.graph_break_count == 0


@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_made_anew_from_its_configuration_and_state(name):
    model = made(name)
    stored = asdict(model.config)
    config = PretrainingConfig(**{**stored, "encoder": ASTConfig(**stored["encoder"])})
    with torch.device("meta"):
        empty = pretraining_model(config)
    assert {n: t.shape for n, t in empty.state_dict().items()} == {
        n: t.shape for n, t in model.state_dict().items()
    }


def test_a_loss_that_is_not_used_has_no_head():
    assert not hasattr(made("contrastive"), "reconstruction_head")
    assert not hasattr(made("reconstruction"), "contrastive_head")
    assert isinstance(made("joint").encoder, AST)
    assert isinstance(made("joint"), SSAST)
    assert isinstance(made("joint").contrastive_head[1], nn.ReLU)


def test_a_contrastive_model_reconstructs_nothing():
    with pytest.raises(ValueError, match="reconstructs nothing"):
        made("contrastive").reconstruct(*batch())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "bert"}, "method 'bert' is unknown"),
        ({"loss": "triplet"}, "ssast has joint, contrastive, reconstruction"),
        ({"method": "mae"}, "mae has reconstruction"),
        ({"mask_share": 0.0}, "mask_share 0.0 is not a number in"),
        ({"mask_share": 1.0}, "mask_share 1.0 is not a number in"),
        ({"mask_share": float("nan")}, "mask_share nan"),
        ({"mask_share": 0.001}, "hides 0: at least one"),
        ({"mask_share": 0.999}, "hides 30: at least one has to be hidden and one to be seen"),
        ({"encoder": replace(ENCODER, stride=(10, 10))}, "patches may not overlap"),
        ({"encoder": replace(ENCODER, patchout=(1, 1))}, "patchout"),
        ({"encoder": replace(ENCODER, num_frames=64)}, "smaller than a cluster of 5 x 5"),
        ({"clusters": 1}, "clusters 1 is neither"),
        ({"decoder_width": 100}, "cannot be split over decoder_heads 3"),
        ({"decoder_depth": 0}, "decoder_depth 0 is not an integer"),
    ],
)
def test_what_does_not_fit_is_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        replace(CONFIGS["joint"], **changes)
    assert "\n" not in str(caught.value)

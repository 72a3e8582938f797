"""8-bit integers on a CPU: how near they stay to float32."""

import copy

import pytest
import torch
from torch import nn

from ast_model import AST, ASTConfig
from ast_model.quantise import Int8Linear, largest_weight, quantise


@pytest.fixture
def model():
    torch.manual_seed(0)
    return AST(ASTConfig.preset("tiny224", num_classes=10, num_frames=128)).eval()


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@torch.inference_mode()
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_within_two_percent(bias):
    """Output scales differ a thousandfold: one scale for all of them would lose the small ones."""
    linear = nn.Linear(192, 64, bias=bias)
    linear.weight.mul_(torch.logspace(-3, 0, 64)[:, None])
    tokens = torch.randn(2, 50, 192)
    expected, found = linear(tokens), Int8Linear(linear)(tokens)
    errors = (found - expected).flatten(0, 1).norm(dim=0) / expected.flatten(0, 1).norm(dim=0)
    assert errors.max() < (0.02 if largest_weight() == 127 else 0.03)
    assert errors.min() > 0  # it did round


@torch.inference_mode()
def test_the_largest_sums_do_not_overflow():
    """On an x86 CPU without VNNI two products are added in 16 bits."""
    linear = nn.Linear(64, 8, bias=False)
    linear.weight.fill_(1.0)
    linear.weight[::2] *= -1
    tokens = torch.ones(2, 64)
    tokens[0, 0] = 0  # the smallest of the batch
    torch.testing.assert_close(Int8Linear(linear)(tokens), linear(tokens), rtol=1e-3, atol=0)


@torch.inference_mode()
def test_a_layer_of_zeros_gives_its_bias():
    linear = nn.Linear(8, 4)
    linear.weight.zero_()
    torch.testing.assert_close(Int8Linear(linear)(torch.ones(1, 8)), linear.bias[None])


@torch.inference_mode()
def test_a_model_stays_near_float32_and_keeps_its_order(model):
    fbank = torch.randn(4, 128, 128) / 2
    exact = copy.deepcopy(model)
    engine = torch.backends.quantized.engine
    fast = quantise(model)
    assert relative(fast.embed(fbank), exact.embed(fbank)) < 0.05
    found, expected = fast(fbank), exact(fbank)
    first, second = expected.topk(2).values.unbind(-1)
    clear = first - second > 0.05  # random weights: other clips are all but tied
    assert clear.any()
    assert torch.equal(found[clear].argmax(-1), expected[clear].argmax(-1))
    assert torch.backends.quantized.engine == engine


def test_every_linear_layer_is_replaced_and_nothing_else(model):
    before = {name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    quantise(model)
    after = {name for name, layer in model.named_modules() if isinstance(layer, Int8Linear)}
    assert before == after
    assert len(after) == 12 * 4 + 1
    assert not any(isinstance(layer, nn.Linear) for layer in model.modules())


@pytest.mark.parametrize("change", [{"dtype": torch.bfloat16}, {"device": "meta"}])
def test_only_float32_on_a_cpu(model, change):
    with pytest.raises(ValueError, match="8-bit integers are made of float32 on a CPU"):
        quantise(model.to(**change))


@torch.inference_mode()
@pytest.mark.parametrize("name", ["patch_embedding.projection.weight", "cls_token"])
def test_what_overflows_before_a_layer_of_integers_is_nan_in_the_scores(model, name):
    """The integers would make finite numbers of it."""
    parameter = model.get_parameter(name)
    parameter.fill_(3e38)
    parameter.view(-1)[::2] = -3e38
    logits = quantise(model)(torch.randn(2, 128, 128) * 10)
    assert not logits.isfinite().any()

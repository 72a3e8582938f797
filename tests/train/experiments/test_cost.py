"""Costs: FLOPs by an independent formula, and measurements in a process of their own."""

from dataclasses import replace

import pytest
import torch

from ast_model import AST
from train.device import peak_memory
from train.experiments import cost
from train.experiments.cost import count, measure, measure_step, training_step
from train.recipes.audioset import AUDIOSET_BALANCED
from train.recipes.esc10 import ESC10_SCRATCH


def matrix_products(config):
    """FLOPs of every matrix product of the forward pass of one clip, by hand."""
    tokens, width, hidden = config.num_tokens, config.width, config.width * config.mlp_ratio

    def block(queries):
        products = 2 * tokens * width * 3 * width  # queries, keys, values
        products += 2 * 2 * queries * tokens * width  # queries by keys, weights by values
        return products + 2 * queries * width * (width + 2 * hidden)  # projection, MLP

    last = tokens if config.pooling == "patches" else config.num_special_tokens
    patch = config.patch[0] * config.patch[1]
    embedding = 2 * (tokens - config.num_special_tokens) * patch * width
    blocks = (config.depth - 1) * block(tokens) + block(last)
    return blocks + embedding + 2 * width * config.num_classes


@pytest.mark.parametrize("recipe", [AUDIOSET_BALANCED, ESC10_SCRATCH])
def test_flops_are_those_of_the_formula(recipe):
    config = recipe.model_config(527)
    patches, parameters, flops = count(recipe, 527)
    assert patches == config.grid[0] * config.grid[1]
    assert flops == pytest.approx(matrix_products(config), rel=0.01)
    with torch.device("meta"):
        assert parameters == sum(p.numel() for p in AST(config).parameters())


def test_base384_has_the_papers_patches_and_size():
    patches, parameters, flops = count(AUDIOSET_BALANCED, 527)
    assert patches == 1212
    assert parameters == pytest.approx(87e6, rel=0.02)  # paper's size of DeiT base with its head
    assert flops == pytest.approx(243.6e9, rel=0.01)  # 261.0 if the last block did all tokens


def test_a_baseline_is_counted_too(recipe):
    patches, parameters, flops = count(replace(recipe, model="resnet10t"), 8)
    assert patches is None
    assert 4e6 < parameters < 6e6
    assert flops > 1e7


def test_weights_that_the_recipe_starts_from_are_not_needed(recipe, monkeypatch):
    monkeypatch.setattr(cost, "MIN_SECONDS", 0)
    recipe = replace(recipe, init_from="audioset", ema_decay=0.9, max_grad_norm=1.0)
    measured = measure_step(training_step, recipe, num_classes=8, batch_size=4, device="cpu")
    assert measured.speed > 0
    assert measured.precision == "fp32"


def test_speed_and_memory_are_measured_apart_from_this_process(recipe):
    ballast = torch.ones(250_000_000)  # 1 GB here, none in the process that measures
    measured = measure(recipe, 8, batch_size=4, device="cpu")
    assert len(ballast) == 250_000_000
    assert (measured.precision, measured.batch_size) == ("fp32", 4)
    assert min(measured.inference_speed, measured.training_speed) > 0
    assert 50e6 < measured.inference_memory < peak_memory(torch.device("cpu")) - 0.5e9
    assert measured.training_memory > measured.inference_memory
    assert measured.device.endswith(("thread", "threads"))


def test_a_model_that_does_not_fit_is_one_line(recipe, monkeypatch):
    def too_large(*_):
        raise RuntimeError("out of memory\nand a long explanation")

    monkeypatch.setattr(cost.ProcessPoolExecutor, "submit", too_large)
    with pytest.raises(ValueError, match=r"^recipe demo, 4 clips at a time, .*smaller batch$"):
        measure(recipe, 8, batch_size=4)

"""A state that does not go on with its run is refused, whatever in it is not of the run."""

from dataclasses import replace

import pytest
import torch

from ast_model import AST
from data.splits import split_clips
from train.loop import TrainState
from train.run.folder import load_state, save_state
from train.run.log import Run
from train.run.resume import require_resumable, stored_model
from train.run.schema import OF_AN_EPOCH

ROW = {"epoch": 1, **dict.fromkeys(OF_AN_EPOCH, 0.5)}


@pytest.fixture(scope="module")
def averaging(recipe):
    """A recipe whose state holds all that one can hold."""
    changes = {"ema_decay": 0.9, "average_epochs": (1, 2), "checkpoint_ensemble": True}
    return replace(recipe, epochs=3, **changes)


@pytest.fixture
def run(averaging, manifest, tmp_path):
    splits = split_clips(manifest, 1, averaging.seed)
    return Run(tmp_path / "run", averaging, manifest, splits, None, 600)


def new_state(run):
    torch.manual_seed(0)
    model = AST(run.recipe.model_config(len(run.manifest.classes)))
    return TrainState.before_training(run.recipe, "fp32", torch.device("cpu"), model, 4)


@pytest.fixture
def saved(run):
    """After one step of the second epoch."""
    state = new_state(run)
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    state.epoch, state.batch, state.clips, state.rows = 1, 1, 8, [dict(ROW)]
    state.ensemble = torch.zeros(len(run.splits.validation), len(run.manifest.classes))
    return {"version": 1, "run": run.identity, **state.state_dict()}


def resume(run, saved):
    """As `TrainState.create` does."""
    save_state(run.folder, saved)
    read = load_state(run.folder)
    stored_model(read, run)
    state = new_state(run)
    require_resumable(read, state, run)
    state.load_state_dict(read)
    return state


def test_a_state_goes_on_with_its_run(run, saved):
    state = resume(run, saved)
    assert (state.epoch, state.batch, state.rows) == (1, 1, [ROW])
    for index, moments in state.optimizer.state_dict()["state"].items():
        assert torch.equal(moments["exp_avg"], saved["optimizer"]["state"][index]["exp_avg"])


def test_a_state_of_the_version_before_goes_on(run, saved):
    """It says neither its version nor its run, and torch's optimisers had fewer options."""
    del saved["version"], saved["run"], saved["optimizer"]["param_groups"][0]["maximize"]
    assert resume(run, saved).epoch == 1


def first(tensors):
    return next(iter(tensors))


def put(*path):
    """What sets an entry of nested containers."""
    *way, value = path

    def change(saved):
        for key in way[:-1]:
            saved = saved[key]
        saved[way[-1]] = value

    return change


NAN = torch.tensor([float("nan")])
MOMENT = ("optimizer", "state", 3)
BROKEN = {
    "newer": (put("version", 2), "is of version 2"),
    "no config": (lambda s: s.pop("config"), "of another version of this program"),
    "no model": (lambda s: s.pop("model"), "model is NoneType"),
    "no optimizer": (lambda s: s.pop("optimizer"), "optimizer is NoneType"),
    "no ema": (lambda s: s.pop("ema"), "of a recipe without ema"),
    "no average": (lambda s: s.pop("average"), "of a recipe without average"),
    "no epoch": (lambda s: s.pop("epoch"), "lacks the field epoch"),
    "epoch of a text": (put("epoch", "1"), "epoch is '1'"),
    "epoch of a tensor": (put("epoch", torch.ones(2)), "lacks the field epoch"),
    "more epochs than rows": (put("epoch", 2), "rows is"),
    "batch below 0": (put("batch", -1), "batch is -1"),
    "beyond the epoch": (put("batch", 4), "at epoch 1, batch 4, beyond the end"),
    "more clips": (put("clips", 99), "after 99 clips in 1 batches"),
    "loss of NaN": (put("loss_sum", float("nan")), "loss_sum is the number nan"),
    "score of NaN": (put("rows", 0, "mAP", float("nan")), "mAP is the number nan"),
    "score beyond 1": (put("rows", 0, "mAP", 3.0), "epoch 1: mAP is 3.0"),
    "score too large": (put("rows", 0, "loss", 10**400), "epoch 1: loss is"),
    "row of a list": (put("rows", 0, []), "row is list"),
    "another run": (put("run", "fold", 2), r"of another run \(fold 2 -> 1\)"),
    "no run": (put("run", {}), "is not a recipe"),
    "fold of a tensor": (put("run", "fold", torch.ones(2, 2)), "fold is of type Tensor"),
    "another size": (put("config", "width", 64), r"of another model \(width 64, the recipe's is"),
    "an odd field": (put("config", "colour", 1), "of a model that this version does not know"),
    "a size of a tensor": (put("config", "width", torch.ones(2)), "of another model"),
    "large": (put("config", "mlp_ratio", 1e6), "mlp_ratio 1000000"),
    "wide": (put("config", "mlp_ratio", 32.0), "of another model: model, blocks.0.mlp"),
    "weights of NaN": (put("model", "head.bias", NAN.expand(8).clone()), "holds NaN"),
    "weights of another shape": (
        put("model", "head.bias", torch.ones(9)),
        "head.bias is no tensor",
    ),
    "weights of integers": (put("model", "head.bias", torch.ones(8).long()), "head.bias is no ten"),
    "weights of a text": (put("model", "head.bias", "ones"), "head.bias is no tensor"),
    "a stray weight": (put("model", "tail", torch.ones(8)), "model differs in 'tail'"),
    "average of NaN": (put("average", "module.head.bias", NAN.expand(8).clone()), "holds NaN"),
    "ensemble of others": (put("ensemble", torch.ones(3, 8)), "of other predictions"),
    "ensemble of none": (put("ensemble", None), "of other predictions"),
    "moments of none": (lambda s: s["optimizer"]["state"].pop(3), "of other parameters"),
    "moments of text": (put("optimizer", "state", "3", {}), "of other parameters"),
    "another optimizer": (
        lambda s: s["optimizer"]["state"][3].pop("exp_avg"),
        "parameter 3 has ot",
    ),
    "no groups": (put("optimizer", "param_groups", []), "of another optimiser"),
    "other betas": (put("optimizer", "param_groups", 0, "betas", (0.1, 0.2)), "another optimiser"),
    "no scale": (lambda s: s["optimizer"]["param_groups"][0].pop("scale"), "another optimiser"),
    "no ensemble": (lambda s: s.pop("ensemble"), "ensemble is NoneType"),
    "a beta of many": (
        put("optimizer", "param_groups", 0, "betas", (torch.zeros(3), 0.999)),
        "another optimiser",
    ),
    "groups of text": (put("optimizer", "param_groups", 0, "text"), "another optimiser"),
    "rate below 0": (put("optimizer", "param_groups", 0, "lr", -1.0), "another optimiser"),
    "moment of another shape": (put(*MOMENT, "exp_avg", torch.ones(2)), "exp_avg is no tensor"),
    "moment below 0": (lambda s: s["optimizer"]["state"][3]["exp_avg_sq"].sub_(9), "no training"),
    "moment of NaN": (lambda s: s["optimizer"]["state"][3]["exp_avg"].mul_(NAN), "holds NaN"),
    "later step": (put(*MOMENT, "step", torch.tensor(99.0)), "no training gives"),
    "path of a number": (put("skipped", [3]), "skipped is int"),
    "splits of a number": (put("splits", 3), "splits is int"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_state_of_something_else_is_refused(run, saved, name):
    change, message = BROKEN[name]
    change(saved)
    with pytest.raises(ValueError, match=message) as caught:
        resume(run, saved)
    assert "state.pt" in str(caught.value)
    assert "give a new --out" in str(caught.value)

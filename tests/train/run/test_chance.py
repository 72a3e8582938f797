"""Chance, when a run is compared with it, and what is recommended."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from train.recipes import RECIPES
from train.run.chance import chance, is_asked, remedies


def test_chance_of_accuracy_is_the_largest_class():
    targets = np.eye(4)[[0] * 40 + [1] * 20 + [2] * 20 + [3] * 20]
    guess = chance(targets, "accuracy")
    assert guess.score == 0.4
    assert binom.sf(100 * guess.luck - 1, 100, 0.4) > 0.05 >= binom.sf(100 * guess.luck, 100, 0.4)
    assert chance(targets[:5], "accuracy").luck == 1.0  # five clips of one class tell nothing


def test_chance_of_map_is_that_of_random_rankings():
    from sklearn.metrics import average_precision_score

    targets, generator = np.eye(8)[np.arange(48) % 8], np.random.default_rng(1)
    scores = [
        np.mean([average_precision_score(column, generator.random(48)) for column in targets.T])
        for _ in range(100)
    ]
    guess = chance(targets, "mAP")
    assert guess.score == pytest.approx(np.mean(scores), abs=0.015)
    assert guess.luck == pytest.approx(np.quantile(scores, 0.95), abs=0.03)


def asked(steps_per_epoch, last=None, **changes):
    """The epochs after which a run is asked that ends after `last` of them."""
    recipe = replace(RECIPES["from_scratch"], **changes)
    last = last or recipe.epochs
    epochs = range(1, last + 1)
    return [e for e in epochs if is_asked(recipe, e, steps_per_epoch, finished=e == last)]


def test_a_run_is_asked_once_after_a_fifth_of_it_but_not_too_early():
    assert asked(50, epochs=40, warmup_epochs=4.0) == [8]
    assert asked(50, epochs=5, warmup_epochs=0.0) == [3]
    assert asked(2000, epochs=5, warmup_epochs=0.0) == [1]  # AudioSet: a day an epoch
    assert asked(20, epochs=20, warmup_epochs=0.0) == [5]  # 100 steps
    assert asked(50, epochs=20, warmup_epochs=10.0) == [10]


def test_a_run_that_ends_early_is_asked_at_its_end_and_a_short_one_never():
    assert asked(50, epochs=40, last=6, warmup_epochs=0.0) == [6]
    assert asked(50, epochs=2, warmup_epochs=0.0) == [2]
    assert asked(10, epochs=5, warmup_epochs=0.0) == []


def tries(rows=((2.3, 2.3),), **changes):
    recipe = replace(RECIPES["from_scratch"], **{"epochs": 40, "mixup_rate": 0.0} | changes)
    ((first, last),) = rows
    return remedies(recipe, [{"train_loss": first}, {"train_loss": last}], 50)


def test_what_is_recommended_fits_the_recipe():
    (rate,) = tries(learning_rate=1e-12)
    assert rate == "--learning-rate 0.0005, the usual one of random weights, not 1e-12"
    assert tries(learning_rate=0.3)[0].startswith("--learning-rate 0.0005")
    assert tries(layer_decay=0.75)[0].startswith("--layer-decay 1, since")
    assert tries(freeze_backbone=True)[0].startswith("--no-freeze-backbone")
    few = tries(epochs=10, mixup_rate=0.5)
    assert few[0].startswith("more --epochs") and few[1].startswith("--mixup-rate 0")
    (labels,) = tries(rows=[(2.3, 0.4)])
    assert "the training loss falls (2.300 to 0.400)" in labels
    (nothing_odd,) = tries()
    assert nothing_odd.startswith("--learning-rate 0.0015 or 0.00017; and listen")

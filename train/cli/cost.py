"""`ast-audio cost`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated

from data.files import require_replaceable, write_json
from train.cli.options import (
    TO_FILE,
    Device,
    PositiveInt,
    RecipeOptions,
    find_recipe,
    parse,
    unless_given,
)
from train.experiments.cost import Cost, measure

BATCH = 12  # clips a step unless --batch-size is given: a recipe's own may not fit this machine


@dataclass(frozen=True)
class CostOptions:
    """Count the parameters and FLOPs of a recipe's model, and measure its speed and memory.

    From random weights and noise, in training and in inference, each in a process of its own.
    """

    recipe: RecipeOptions
    classes: PositiveInt = 527
    """Outputs of the model."""
    device: Device = "auto"
    out: Annotated[Path | None, TO_FILE, unless_given("printed alone")] = None
    """JSON file to write, which `ast-audio ledger --bench` reads."""


def run(words: Sequence[str]) -> None:
    recipe, _, rest = find_recipe("cost", words)
    default = CostOptions(RecipeOptions.of(replace(recipe, batch_size=BATCH)))
    options = parse(CostOptions, rest, f"cost {words[0]}", default)
    if options.out:
        require_replaceable(options.out, f'{{\n  "{fields(Cost)[0].name}":')
    recipe = options.recipe.change(recipe)
    cost = vars(measure(recipe, options.classes, recipe.batch_size, options.device))
    for name, value in cost.items():
        print(f"{name:17} {value:,}" if isinstance(value, int) else f"{name:17} {value}")
    if options.out:
        write_json(options.out, cost)
        print(f"wrote {options.out}")

"""A table: rows that each change some fields of a recipe, and the row they are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from data.corpora import COLUMNS
from train.recipe import OLD_NAMES, Recipe
from train.run.folder import folder_name

CHECKPOINT = "<checkpoint>"
"""A row's `init_from` that stands for the models given as --checkpoint, a row each; without one,
the row is left out."""

# Fields that are the same in all rows; scores are compared, so the metric is one of them.
SHARED = ("name", "summary", "seed", "metric", "corpus", *COLUMNS)


@dataclass(frozen=True)
class Row:
    """One model of a table.

    Raises:
        ValueError: the name cannot be a folder's.
    """

    name: str
    changes: Mapping[str, Any]  # field of the recipe -> its value
    balanced: float | None = None  # mAP in the paper on AudioSet balanced; None: not published
    full: float | None = None  # on AudioSet full

    def __post_init__(self) -> None:
        folder_name(self.name, "row")


@dataclass(frozen=True)
class Table:
    """Rows to be trained under equal conditions.

    Raises:
        ValueError: there are no two rows, two of one name, or no row of the reference's name.
    """

    name: str
    title: str
    rows: Sequence[Row]
    reference: str  # name of the row that the others are compared with

    def __post_init__(self) -> None:
        names = [row.name.lower() for row in self.rows]  # file systems may ignore case
        if len(names) < 2:
            raise ValueError(f"table {self.name} compares nothing: give it two rows or more")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"table {self.name} has two rows {name!r}; rename one")
        if self.reference not in [row.name for row in self.rows]:
            raise ValueError(
                f"table {self.name} has no row {self.reference!r} to compare with; "
                f"make one of {', '.join(row.name for row in self.rows)} the reference"
            )

    def select(self, names: Sequence[str], reference: str | None) -> Table:
        """The table with only these rows, and with another reference if given.

        Args:
            names: of the rows; none: all but those that lack a model to start from.

        Raises:
            ValueError: it has no such row, a row lacks its model, or the reference is not among
                the rows.
        """
        known = {row.name: row for row in self.rows}
        for name in names:
            if name not in known:
                raise ValueError(
                    f"table {self.name} has no row {name!r}; its rows: {', '.join(known)}"
                )
        open_rows = [name for name, row in known.items() if _is_open(row)]
        chosen = names or [name for name in known if name not in open_rows]
        for name in open_rows:
            if name in chosen or len(chosen) < 2:
                raise ValueError(f"row {name} of table {self.name} needs --checkpoint MODEL")
        rows = [known[name] for name in chosen]
        return replace(self, rows=rows, reference=reference or self.reference)

    def with_checkpoints(self, checkpoints: Mapping[str, str]) -> Table:
        """The table with a row for each model in place of the row that takes `CHECKPOINT`.

        Args:
            checkpoints: model by the name of its row; "" is the name that the table has for it.
                None given: the table as it is.

        Raises:
            ValueError: no row takes a checkpoint, or two rows have one name.
        """
        if not checkpoints:
            return self
        if not any(map(_is_open, self.rows)):
            raise ValueError(
                f"no row of table {self.name} takes --checkpoint; --init-from "
                f"{next(iter(checkpoints.values()))} initialises every row from it"
            )
        rows = [
            each
            for row in self.rows
            for each in (_each_from(row, checkpoints) if _is_open(row) else [row])
        ]
        return replace(self, rows=rows)

    def recipes(self, recipe: Recipe) -> dict[str, Recipe]:
        """Each row's recipe, by the row's name; what a row changes is not left to the data.

        Raises:
            ValueError: a row names a field that no recipe has or that all rows share, a value is
                out of range, or two rows are the same recipe.
        """
        recipes = {row.name: self._changed(recipe, row) for row in self.rows}
        first: dict[Recipe, str] = {}
        for name, changed in recipes.items():
            other = first.setdefault(_effective(changed), name)
            if other != name:
                raise ValueError(
                    f"rows {other} and {name} of table {self.name} are the same recipe"
                    + _why_same(recipes[other], changed)
                )
        return recipes

    def _changed(self, recipe: Recipe, row: Row) -> Recipe:
        try:
            for name in row.changes:
                _check_field(name)
            return recipe.given(**row.changes)
        except ValueError as error:
            raise ValueError(f"row {row.name} of table {self.name}: {error}") from None


def _is_open(row: Row) -> bool:
    """Whether a row lacks the model that it starts from."""
    return row.changes.get("init_from") == CHECKPOINT


def _each_from(row: Row, checkpoints: Mapping[str, str]) -> list[Row]:
    """The row from each of several models."""
    return [
        replace(row, name=name or row.name, changes={**row.changes, "init_from": model})
        for name, model in checkpoints.items()
    ]


def named_checkpoints(words: Sequence[str]) -> dict[str, str]:
    """The models of `with_checkpoints` as a command line gives them: MODEL, or NAME=MODEL, ….

    Raises:
        ValueError: two have one name, or a name or a model is empty.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, model = word.partition("=")
        # A path may have the sign too: what stands before it in a name has no separator.
        if not equals or "/" in name or "\\" in name:
            name, model = "", word
        elif not (name and model):
            raise ValueError(f"--checkpoint {word!r}: give MODEL, or NAME=MODEL")
        if name in found:
            raise ValueError(f"--checkpoint {word!r}: there is one called {name!r} already")
        found[name] = model
    return found


def _check_field(name: str) -> None:
    """Raises ValueError unless a row may change this field."""
    if name in SHARED:
        raise ValueError(f"it changes {name}, which all rows share; give it as an option")
    if name in OLD_NAMES:
        raise ValueError(f"the field {name} is called {OLD_NAMES[name]} now")
    known = [field.name for field in fields(Recipe) if field.name not in SHARED]
    if name not in known:
        near = get_close_matches(name, known, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else "`train RECIPE --help` lists all"
        raise ValueError(f"no recipe has a field {name!r}; {remedy}")


def _effective(recipe: Recipe) -> Recipe:
    """The recipe with fields that have no effect at their defaults."""
    if recipe.init_from == "scratch":
        return replace(recipe, positions="bilinear", rgb_kernel="mean")
    return recipe


def _why_same(one: Recipe, other: Recipe) -> str:
    if one == other:
        return "; change or remove one"
    return ": from scratch, positions and rgb_kernel have no effect; give --init-from"

"""What mkdocs makes while it builds: what is not kept in the repository cannot be out of date.

The tables and plots of `train/experiments/tables/results` are shown where a page links to them.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from train import recipes
from train.cli import COMMANDS, main
from train.recipe import GROUPS, BaseRecipe
from train.recipes import RECIPES
from train.recipes.pretraining import PRETRAINING_RECIPES

TABLES = "train/experiments/tables/results"
WIDTH = 100  # characters of a line of help
WITH_FIELDS = ("train", "pretrain")  # commands that every field of a recipe is shown with
EXAMPLES = {"pretrain": "ssast"}  # recipe whose help is shown
FIELD_BOXES = tuple(
    f"╭─ {re.sub('(?<!^)(?=[A-Z])', '-', group.__name__).lower()} options" for group in GROUPS
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the plots of the ablations."""
    pages = {"reference/commands.md": commands_page(), "reference/recipes.md": recipes_page()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    for plot in Path(TABLES).glob("*.png"):
        files.append(File.generated(config, f"plots/{plot.name}", abs_src_path=str(plot.resolve())))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put tables in the place of links to them, and the copied plots in that of the originals."""
    table = re.compile(rf"^\[.+\]\(\.\./({TABLES}/[\w-]+\.md)\)$", re.MULTILINE)
    markdown = table.sub(lambda link: without_heading(Path(link[1])), markdown)
    return markdown.replace(f"(../{TABLES}/", "(plots/")


def without_heading(table: Path) -> str:
    return table.read_text(encoding="utf-8").partition("\n\n")[2]


def commands_page() -> str:
    parts = [
        "# Commands\n\nMade from `ast-audio COMMAND --help`; the same as `python -m train`.",
        *(f"## {name}\n\n{help_of(name)}" for name in COMMANDS),
    ]
    return "\n\n".join(parts)


def help_of(command: str) -> str:
    """What `--help` of a command shows; the recipes and their fields only with `train`."""
    text = output_of(command, "--help")
    usage = text.partition("\n")[0]
    if "RECIPE" not in usage:
        return block(f"ast-audio {command} --help", text)
    words = [command, EXAMPLES.get(command, "finetune")]
    words = [command, "overlap", "finetune"] if "TABLE" in usage else words
    boxes = re.split(r"(?=^╭─ )", output_of(*words, "--help"), flags=re.MULTILINE)
    if command not in WITH_FIELDS:
        boxes = [box for box in boxes if not box.startswith(FIELD_BOXES)]
        boxes.append("and every field of the recipe, as `train` has them\n")
    options = block(f"ast-audio {' '.join(words)} --help", "".join(boxes))
    if command not in (*WITH_FIELDS, "ablate"):
        return options
    return f"{block(f'ast-audio {command} --help', text)}\n\n{options}"


def output_of(*words: str) -> str:
    os.environ["COLUMNS"] = str(WIDTH)
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # whose boxes are drawn with lines
    with contextlib.redirect_stdout(terminal), contextlib.suppress(SystemExit):
        main(words)
    terminal.seek(0)
    return "".join(textwrap.fill(line, WIDTH) + "\n" for line in terminal.read().splitlines())


def block(command: str, text: str) -> str:
    return f"```text\n$ {command}\n{text.rstrip()}\n```"


def recipes_page() -> str:
    return "\n".join(
        [
            "# Recipes\n\nMade from `train/recipes`. What each field means is in "
            "[train.recipe](train.md#recipes); each is an option of `ast-audio train`.\n",
            *table_lines(
                ("recipe", "for"), [(f"`{each.name}`", each.summary) for each in RECIPES.values()]
            ),
            "\nOf `ast-audio pretrain`:\n",
            *table_lines(
                ("recipe", "for"),
                [(f"`{each.name}`", each.summary) for each in PRETRAINING_RECIPES.values()],
            ),
            "\n## How they differ\n\nFields that all recipes share are left out.\n",
            *differences(RECIPES),
            "",
            *differences(PRETRAINING_RECIPES),
            *(f"\n## {path.stem}\n\n{docstring_of(path)}" for path in recipe_files()),
        ]
    )


def differences(recipes: Mapping[str, BaseRecipe]) -> Iterator[str]:
    """A table of the fields in which recipes of one kind differ."""
    values = list(recipes.values())
    names = [each.name for group in values[0].groups for each in fields(group)]
    rows = [(name, [getattr(recipe, name) for recipe in values]) for name in names]
    differing = [(f"`{name}`", *map(str, row)) for name, row in rows if len({*row}) > 1]
    return table_lines(("field", *recipes), differing)


def table_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for row in (header, ("---",) * len(header), *rows):
        yield f"| {' | '.join(row)} |"


def recipe_files() -> list[Path]:
    return sorted(Path(recipes.__file__).parent.glob("[a-z]*.py"))


def docstring_of(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""

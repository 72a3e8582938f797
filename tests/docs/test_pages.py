"""README and guide: what they tell people to type exists, and their links lead somewhere."""

import ast
import contextlib
import importlib
import io
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from train.cli import COMMANDS, main
from train.experiments.ledger import ledger
from train.experiments.tables import TABLES
from train.recipes import RECIPES
from train.recipes.pretraining import PRETRAINING_RECIPES

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def typed_lines(page: Path) -> list[str]:
    """What a page has people type: lines after a $, and commands of ours within a sentence."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prompted = re.findall(r"^\$ ((?:.*\\\n)*.*)$", "\n".join(blocks), re.MULTILINE)
    return prompted + re.findall(r"`(ast-audio\s[^`]+)`", text)


def commands_of(page: Path) -> list[list[str]]:
    """The words after `ast-audio`, or after another way to start it."""
    found = []
    for line in typed_lines(page):
        words = shlex.split(line.replace("\\\n", " "), comments=True)
        for start in (["ast-audio"], ["-m", "train"]):
            for index in range(len(words)):
                if words[index : index + len(start)] == start:
                    found.append(words[index + len(start) :])
    return [words for words in found if words and words[0] != "COMMAND"]


@cache
def help_of(command: str) -> str:
    """`--help` of a command, with the fields of a recipe where it takes one."""
    table = ["overlap"] if command == "ablate" else []
    texts = []
    recipe = "ssast" if command == "pretrain" else "demo"
    for words in ([command, "--help"], [command, *table, recipe, "--help"]):
        with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
            main(words)
        texts.append(text.getvalue())
    return texts["RECIPE" in texts[0].partition("\n")[0]]


@each_page
def test_commands_and_their_options_exist(page):
    for command, *words in commands_of(page):
        if command == "--help":
            continue
        assert command in COMMANDS, f"ast-audio {command}"
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        missing = [each for each in options if not re.search(rf"{each}\b", help_of(command))]
        assert not missing, f"ast-audio {command} has no {', '.join(missing)}"


@each_page
def test_options_named_in_a_sentence_exist(page):
    named = re.findall(r"`(--[a-z][a-z0-9-]+)[^`]*`", page.read_text(encoding="utf-8"))
    helps = "\n".join(map(help_of, COMMANDS)) if named else ""
    for option in named:
        assert re.search(rf"{option}\b", helps), option


@each_page
def test_recipes_and_tables_exist(page):
    for command, *words in commands_of(page):
        if command == "ablate" and words and words[0] not in ("TABLE", "…"):
            table = words.pop(0)
            assert table in TABLES or table.endswith(".py"), f"table {table}"
        if command == "pretrain":
            assert words[0] in (*PRETRAINING_RECIPES, "RECIPE"), words[0]
        if command in ("train", "crossval", "ablate", "audit", "stats", "cost") and words:
            recipe = words[0]
            assert recipe in (*RECIPES, "RECIPE", "…", "--help") or recipe.endswith(".json"), recipe


@each_page
def test_targets_of_make_exist(page):
    targets = re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    for line in typed_lines(page):
        if line.startswith("make "):
            assert line.split()[1] in targets, line


@each_page
def test_code_is_python_and_what_it_imports_exists(page):
    text = page.read_text(encoding="utf-8")
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, each.name) for each in node.names), ast.unparse(node)


def test_readme_is_short_and_its_links_lead_to_files():
    text = PAGES[0].read_text(encoding="utf-8")
    assert len(text.splitlines()) < 200
    links = re.findall(r"\]\(([^)#]+)", text)
    assert links
    for link in links:
        assert (REPOSITORY / link).is_file(), link


def test_ledger_page_has_the_published_results_as_they_are_now(tmp_path):
    page = (REPOSITORY / "docs" / "ledger.md").read_text(encoding="utf-8")
    assert rows(page) == rows(ledger(tmp_path))


def rows(text: str) -> list[list[str]]:
    """Of the ledger's table, the columns that do not depend on a machine."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [line.split(" | ")[:6] for line in lines]

"""A page as a browser would read it, and runs whose names attack it."""

import base64
import csv
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from data.files import write_json
from tests.train.cli.conftest import fails  # noqa: F401
from train.run.folder import write_table

VOID = {"meta", "img", "br", "link", "input", "source", "hr"}


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text without the style's."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.style, self.open = [], "", "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.text += data

    def all(self, *tags):
        return [attrs for tag, attrs in self.tags if tag in tags]

    @property
    def ids(self):
        return [attrs["id"] for _, attrs in self.tags if "id" in attrs]


def decoded(uri, kind):
    """The content of a data URI of that type."""
    head, _, content = uri.partition(";base64,")
    assert head == f"data:{kind}"
    return base64.b64decode(content)


@pytest.fixture
def read_page():
    def read(file):
        return Page(file.read_text(encoding="utf-8"))

    return read


@pytest.fixture
def scored_run(recipe):
    """Writes a finished run of two epochs and no model, from classes and rows of predictions."""

    def write(folder, classes, rows, fold=1, name="demo", **files):
        content = {"recipe": replace(recipe, name=name).to_json(), "fold": fold, "clips": None}
        write_json(folder / "recipe.json", content)
        row = {"epoch": 2, "train_loss": 0.5, "loss": 0.8, "accuracy": 0.5, "mAP": 0.4, "f1": 0.3}
        write_table(folder / "metrics.csv", [{**row, "epoch": 1, "loss": 2}, row])
        scores = {"last": row, "best": row}
        results = {"validation_split": f"fold {fold}", "clips": {"validation": len(rows)}}
        write_json(folder / "results.json", {**results, "chance": 0.25, "validation": scores})
        with (folder / "predictions.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["clip", "target", *classes], *rows])
        return folder

    return write

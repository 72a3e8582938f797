"""Where the tests find real recordings."""

import os
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder with `esc10/` and `spoken_digits/`: `AST_TEST_DATA`, else `../shared/data`."""
    folder = Path(os.environ.get("AST_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "esc10" / "meta" / "esc50.csv").is_file():
        pytest.skip(f"no recordings in {folder}: set AST_TEST_DATA to a folder that holds esc10/")
    return folder


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """The tests' networks are too small to be worth a second thread."""
    torch.set_num_threads(1)

"""Where a user's own data.py, weights.py or train.py hides ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CLASSIFIER = """
from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
model = AST(ASTConfig(num_classes=1, num_frames=64, width=24, heads=3, depth=1))
classifier = AudioClassifier(model, Frontend(FrontendConfig(num_frames=64)), ["dog"])
"""
ASKS = {
    "data": "classifier.classify('a.wav')",
    "weights": "AudioClassifier.from_pretrained('model')",
}


def run(folder: Path, code: str) -> str:
    """What Python says on standard error, of code in a script of the user's folder."""
    (folder / "script.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, folder / "script.py"]
    return subprocess.run(command, env=environment, capture_output=True, text=True).stderr


@pytest.mark.parametrize("name", ["data", "weights"])
def test_a_file_that_hides_ours_is_named_at_import_and_when_ours_is_needed(tmp_path, name):
    (tmp_path / f"{name}.py").write_text("")
    line = f"{tmp_path / name}.py hides the package `{name}` of ast-audio: rename that file"
    said = run(tmp_path, CLASSIFIER + ASKS[name]).splitlines()
    assert said[0] == line
    assert said[-1] == f"ImportError: {line}"


def test_a_package_hides_ours_and_a_folder_without_code_does_not(tmp_path):
    for name in ("train", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "train" / "__init__.py").write_text("")
    said = run(tmp_path, "import ast_model")
    assert said.splitlines() == [
        f"{tmp_path / 'train' / '__init__.py'} hides the package `train` of ast-audio: "
        "rename that file"
    ]

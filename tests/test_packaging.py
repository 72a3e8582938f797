"""What an installation brings: our packages, and a pinned version of what they need."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("ast_model", "data", "train", "weights")
FIND = "from importlib.util import find_spec\n" + "\n".join(
    f"print(find_spec({name!r}).origin)" for name in PACKAGES
)


def test_folders_of_a_users_do_not_hide_our_packages(tmp_path):
    for name in PACKAGES:
        (tmp_path / name).mkdir()
    found = subprocess.run([sys.executable, "-c", FIND], cwd=tmp_path, capture_output=True)
    files = [Path(origin).parts[-2:] for origin in found.stdout.decode().split()]
    assert files == [(name, "__init__.py") for name in PACKAGES]


def test_every_requirement_has_a_pinned_version():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    groups = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    pins = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    wanted = set(re.findall(r"^[\w-]+", "\n".join(groups), re.MULTILINE)) - {"ast-audio"}
    assert len(wanted) > 20
    assert wanted <= set(re.findall(r"^([\w-]+)==", pins, re.MULTILINE))

"""Commands that must fail."""

import pytest


@pytest.fixture
def fails(run_command):
    """Runs a command that must fail; its one line on standard error, without the program's name."""

    def check(*words):
        code, _, err = run_command(*words)
        assert code == 2
        assert err.startswith("ast-audio: ")
        assert err.count("\n") == 1, err
        return err.removeprefix("ast-audio: ").strip()

    return check

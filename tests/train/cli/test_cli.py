"""The program: help without waiting, one line for a user's mistake, a traceback for a fault."""

import logging
import os
import statistics
import subprocess
import sys

import pytest

from train.cli import COMMANDS, main
from train.experiments.runs import RunSummary


@pytest.mark.parametrize("words", [["--help"], []])
def test_help_lists_every_command(words, run_command):
    code, out, _ = run_command(*words)
    assert code == 0
    assert all(f"  {command} " in out for command in COMMANDS)


def test_help_and_typing_errors_are_answered_without_pytorch():
    code = (
        "import sys; from train.cli import main; assert main(['--help']) == 0; "
        "assert main(['trian']) == 2; assert 'torch' not in sys.modules; "
        "assert 'tyro' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "command 'trian' is unknown; did you mean train?" in result.stderr


def test_a_command_that_is_unknown_is_answered_with_what_is_near_or_with_all(run_command):
    for word, meant in (("eval", "evaluate"), ("Train", "train"), ("predictions", "predict")):
        assert run_command(word)[2].endswith(f"{word!r} is unknown; did you mean {meant}?\n")
    assert "is unknown; use one of download, prepare, " in run_command("frobnicate")[2]


def test_help_and_version_are_known_as_words(run_command):
    assert run_command("help") == run_command("--help")
    code, out, _ = run_command("--version")
    assert (code, out.split()[0]) == (0, "ast-audio")


def test_python_minus_m_train_is_the_program():
    words = [sys.executable, "-m", "train", "predict", "nowhere", "a.wav"]
    result = subprocess.run(words, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == "ast-audio: a.wav does not exist; name audio files or folders\n"


def test_a_terminal_that_knows_few_characters_shows_the_rest_escaped():
    words = [sys.executable, "-m", "train", "train", "démo", "--data", "x"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert result.returncode == 2
    assert result.stderr.startswith("ast-audio: recipe 'd\\xe9mo' is unknown; did you mean demo?")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_gone_is_no_error(unbuffered):
    """Whether Python notices as it prints or only as it writes what is left at the end."""
    words = [sys.executable, "-m", "train", "--help"]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment}
    with subprocess.Popen(words, **pipes) as process:
        process.stdout.close()  # as `head` does
        assert process.stderr.read() == b""
    assert process.returncode == 0


UNREAD = """
import logging, sys, train.cli, train.cli.{command}
def run(words):
    for number in range(3):
        logging.getLogger("train").info("a line")
    print("done", file=sys.stderr)
    print("the result")
train.cli.{command}.run = run
sys.exit(train.cli.main(["{command}"]))
"""


@pytest.mark.parametrize(("command", "goes_on"), [("train", True), ("audit", False)])
def test_without_a_reader_a_run_goes_on_and_a_look_ends(command, goes_on):
    words = [sys.executable, "-c", UNREAD.format(command=command)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == (b"done\n" if goes_on else b"")
    assert process.returncode == 0


def test_a_refusal_of_the_system_is_one_line(run_command, tmp_path):
    (tmp_path / "file").touch()
    words = ("ledger", "--runs", tmp_path, "--out", tmp_path / "file" / "ledger.md")
    code, _, err = run_command(*words)
    assert code == 2
    assert err.startswith("ast-audio: ") and err.count("\n") == 1
    assert str(tmp_path / "file") in err


def zip_of_unequal_lengths(_):
    """Makes `as_text`, a function of ours, raise a ValueError that it does not know of."""
    return [RunSummary("a"), ("too", "short")]


def error_of_a_library(_):
    return statistics.mean([])  # a ValueError that the library itself raises


def key_error(_):
    return {}["no such key"]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (zip_of_unequal_lengths, ValueError),
        (error_of_a_library, ValueError),
        (key_error, KeyError),
    ],
)
def test_a_fault_of_the_program_is_not_shown_as_the_users_mistake(monkeypatch, fault, kind):
    monkeypatch.setattr("train.cli.runs.list_runs", fault)
    with pytest.raises(kind):
        main(["runs"])


def test_a_fault_shows_its_traceback_and_exits_with_1():
    code = (
        "import sys, train.cli.runs, train.cli; "
        "train.cli.runs.list_runs = lambda folder: (1, 2).index(3); "
        "sys.exit(train.cli.main(['runs']))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback (most recent call last):")
    assert "tuple.index(x): x not in tuple" in result.stderr


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(FileNotFoundError):
        main(["runs", str(tmp_path / "none"), "--debug"])


@pytest.mark.parametrize(
    ("words", "resumes"), [(["train", "demo", "--data", "x"], True), (["runs"], False)]
)
def test_ctrl_c_says_whether_the_command_goes_on(monkeypatch, run_command, words, resumes):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"train.cli.{words[0]}.run", interrupt)
    code, _, err = run_command(*words)
    assert code == 130
    assert ("the same command goes on from here" in err) == resumes


@pytest.fixture
def talking(monkeypatch):
    """`ast-audio runs` that logs progress and two notes, and prints a result."""

    def run(_):
        logging.getLogger("data.somewhere").info("half way")
        logging.getLogger("weights.somewhere").warning("a new head")
        logging.getLogger("ast_model").warning("note: on a CPU")
        logging.getLogger("train").debug("nothing to see")
        logging.getLogger("else").warning("not ours")
        print("the result")

    monkeypatch.setattr("train.cli.runs.run", run)


def test_progress_goes_to_standard_output_and_notes_to_standard_error(talking, run_command):
    for _ in range(2):  # the second command shows nothing twice
        code, out, err = run_command("runs")
        assert (code, out) == (0, "half way\nthe result\n")
        assert err == "note: a new head\nnote: on a CPU\n"


def test_beside_json_progress_goes_to_standard_error(talking, run_command):
    _, out, err = run_command("runs", "--json")
    assert out == "the result\n"
    assert err.startswith("half way\n")


def test_processes_but_the_first_of_torchrun_are_silent(talking, run_command, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    _, out, err = run_command("runs")
    assert (out, err) == ("the result\n", "")


def test_one_process_commands_refuse_torchrun_once(run_command, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    code, _, err = run_command("runs")
    assert code == 2
    assert "runs runs in one process, but torchrun started 2" in err
    monkeypatch.setenv("RANK", "1")
    assert run_command("runs") == (0, "", "")


def test_debug_says_what_was_set_of_the_process(monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    words = [sys.executable, "-m", "train", "--version", "--debug"]
    result = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "GOMP_SPINCOUNT=10000" in result.stderr
    assert "ast-audio" in result.stdout

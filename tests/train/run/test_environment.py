"""What a run records of the machine: an entry for each start, and none lost to a damaged file."""

import platform

import pytest
import torch

from train.run.environment import describe_environment, note_start, read_starts

CPU = torch.device("cpu")


def test_every_start_has_an_entry(tmp_path):
    assert read_starts(tmp_path) == []
    for precision in ("fp32", "bf16"):
        note_start(tmp_path, describe_environment(CPU, precision, processes=2))
    first, second = read_starts(tmp_path)
    assert (first["precision"], second["precision"]) == ("fp32", "bf16")
    assert first["torch"] == torch.__version__
    assert (first["processes"], "thread" in first["device"]) == ("2", True)


def test_no_process_is_started_to_describe_the_machine(monkeypatch):
    def started(*arguments, **options):
        raise AssertionError(f"started {arguments}")

    monkeypatch.setattr("subprocess.Popen", started)
    monkeypatch.setattr("platform._uname_cache", None)  # as in a process that has not asked yet
    vars(platform.uname()).pop("processor", None)
    assert describe_environment(CPU, "fp32")["system"]


@pytest.mark.parametrize("content", ["", "[]", '{"starts": [1]}', '{"starts": [{"date": 1}]}'])
def test_a_damaged_file_is_named_and_written_anew(tmp_path, content, caplog):
    (tmp_path / "environment.json").write_text(content)
    with pytest.raises(ValueError, match=r"environment\.json"):
        read_starts(tmp_path)
    note_start(tmp_path, {"date": "now"})
    assert read_starts(tmp_path) == [{"date": "now"}]
    assert "written anew" in caplog.text


def test_a_run_has_one_entry_of_its_start_and_a_finished_one_gets_no_more(
    run_command, run_folder, corpus_folder, tiny
):
    (start,) = read_starts(run_folder)
    assert start["precision"] == "fp32"
    words = ("--data", corpus_folder, "--fold", "2", "--out", run_folder, *tiny)
    code, out, err = run_command("train", "demo", *words)
    assert (code, "finished before" in out) == (0, True), err
    assert read_starts(run_folder) == [start]

"""Files and folders: which recordings are meant, and what becomes of bad ones."""

import numpy as np
import pytest
import soundfile

from ast_model import AudioClassifier, Frontend, FrontendConfig
from train.inference.recordings import Recordings, Unreadable, find_recordings


def test_folders_are_searched_for_audio_files_at_any_depth(sounds):
    names = [str(path.relative_to(sounds)) for path in find_recordings([sounds])]
    assert names == ["a.wav", "long.wav", "short.wav", "deeper/a.flac"]


def test_one_path_needs_no_list(sounds):
    assert find_recordings(str(sounds / "a.wav")) == [sounds / "a.wav"]
    assert find_recordings(sounds) == find_recordings([sounds])


def test_the_order_given_is_kept_and_nothing_is_heard_twice(sounds):
    found = find_recordings([sounds / "short.wav", sounds])
    assert [path.name for path in found] == ["short.wav", "a.wav", "long.wav", "a.flac"]


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.wav does not exist"):
        find_recordings([tmp_path / "none.wav"])
    with pytest.raises(ValueError, match="holds no audio files"):
        find_recordings([tmp_path])
    with pytest.raises(ValueError, match="no recording was given"):
        find_recordings([])


def test_resampling_is_told_once_and_what_the_model_cannot_miss_is_no_warning(
    classifier, sounds, caplog
):
    caplog.set_level("INFO")
    recordings = Recordings([sounds / "a.wav"], classifier)
    recordings.log_notes()
    assert not caplog.messages
    config = FrontendConfig(64, sample_rate=32_000, high_freq=4e3)
    hearing = AudioClassifier(classifier.model, Frontend(config), classifier.classes)
    recordings = Recordings(find_recordings([sounds]), hearing)
    recordings.log_notes()
    assert caplog.messages == [
        "4 of 4 recordings are at other rates (8000, 16000 Hz) than the model, and resampled to "
        "its 32000 Hz"
    ]


def test_lengths_are_read_and_a_low_rate_is_told(classifier, sounds, caplog):
    recordings = Recordings(find_recordings([sounds]), classifier)
    assert recordings.seconds[sounds / "short.wav"] == 0.3
    assert recordings.seconds[sounds / "long.wav"] == 5.0
    recordings.log_notes()
    note = "1 of 4 recordings are at 8000 Hz: nothing in them above 4000 Hz"
    assert note in caplog.text


@pytest.fixture
def mixed(sounds, tmp_path):
    """A good file, one that is no audio, one whose end is missing, one of 10 ms."""
    (tmp_path / "b.wav").write_bytes(b"RIFF nothing")
    whole = (sounds / "deeper" / "a.flac").read_bytes()
    (tmp_path / "c.flac").write_bytes(whole[: len(whole) // 2])
    soundfile.write(tmp_path / "d.wav", np.zeros(160), 16_000)
    (tmp_path / "e.wav").write_bytes((sounds / "a.wav").read_bytes())
    return tmp_path


def test_a_bad_file_stops_by_default(classifier, mixed):
    with pytest.raises(Unreadable, match=r"b\.wav"):
        Recordings(find_recordings([mixed]), classifier)


def test_bad_files_are_left_out_counted_and_listed(classifier, mixed, caplog):
    recordings = Recordings(find_recordings([mixed]), classifier, skip_unreadable=True)
    heard = []
    for path in recordings.seconds:
        with recordings.skipping(path):
            recordings.load(path)
            heard.append(path.name)
    assert heard == ["e.wav"]
    assert [path.name for path in recordings.failures] == ["b.wav", "c.flac", "d.wav"]
    recordings.require_any()
    recordings.log_notes()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message.startswith("3 of 4 recordings left out:\n")
    assert "d.wav lasts 10.0 ms; a model needs at least 25 ms" in record.message


def test_a_stream_that_breaks_off_is_unreadable(classifier, mixed):
    recordings = Recordings([mixed / "e.wav"], classifier)
    with pytest.raises(Unreadable, match=r"c\.flac"):
        list(recordings.stream(mixed / "c.flac"))


def test_other_errors_are_not_taken_for_bad_files(classifier, sounds):
    recordings = Recordings([sounds / "a.wav"], classifier, skip_unreadable=True)
    with pytest.raises(ValueError, match="of the model"), recordings.skipping(sounds / "a.wav"):
        raise ValueError("of the model")
    assert not recordings.failures


def test_nothing_readable_is_an_error_even_when_skipping(classifier, mixed):
    with pytest.raises(Unreadable, match=r"none of 1 recordings can be read; the first: .*b\.wav"):
        Recordings([mixed / "b.wav"], classifier, skip_unreadable=True)

"""A corpus resampled once: what the files hold, what a broken run leaves, what is refused."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data import load_audio
from data.corpora.esc50 import esc50
from data.corpora.speech_commands import speech_commands
from data.download.prepare import prepare

CSV = "filename,fold,target,category,esc10\n1-1-A-0.wav,1,0,dog,True\n2-2-A-1.wav,2,1,cow,False\n"


def write_tone(path: Path, rate: int, peak: float = 0.5, subtype: str = "PCM_16") -> np.ndarray:
    """Noise within `peak`, of a quarter of a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).uniform(-peak, peak, (rate // 4, 2))
    soundfile.write(path, samples, rate, subtype=subtype)
    return samples


@pytest.fixture
def corpus(tmp_path) -> Path:
    """ESC-50's layout with one clip of 44.1 kHz and one of 16 kHz."""
    root = tmp_path / "esc"
    write_tone(root / "audio" / "1-1-A-0.wav", 44_100)
    write_tone(root / "audio" / "2-2-A-1.wav", 16_000)
    (root / "meta").mkdir()
    (root / "meta" / "esc50.csv").write_text(CSV)
    for name in ("LICENSE", "esc.zip", ".hidden.wav"):
        (root / name).touch()
    return root


def refusal(*arguments, error: type[Exception] = ValueError, **options) -> str:
    with pytest.raises(error) as caught:
        prepare(*arguments, processes=1, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("processes", [1, 2])
def test_every_file_becomes_flac_and_the_corpus_reads_it(corpus, tmp_path, processes):
    prepared = prepare(corpus, tmp_path / "new" / "esc", processes=processes)
    assert prepared == tmp_path / "new" / "esc"
    assert files(tmp_path / "new") == {
        *("esc/audio/1-1-A-0.flac", "esc/audio/2-2-A-1.flac"),
        *("esc/meta/esc50.csv", "esc/LICENSE"),
    }
    originals, copies = esc50(corpus).clips, esc50(prepared).clips
    for original, copy in zip(originals, copies, strict=True):
        info = soundfile.info(copy.path)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        assert (copy.targets, copy.fold) == (original.targets, original.fold)
        difference = load_audio(copy.path) - load_audio(original.path)
        assert difference.abs().max() <= 0.5 / 2**15


def test_a_recording_of_16_bits_and_the_same_rate_is_kept_exactly(tmp_path):
    path = tmp_path / "a" / "x.wav"
    path.parent.mkdir()
    samples = np.arange(-(2**15), 2**15, dtype=np.int16)
    soundfile.write(path, samples, 16_000)
    prepare(tmp_path / "a", tmp_path / "b", processes=1)
    copy, _ = soundfile.read(tmp_path / "b" / "x.flac", dtype="int16")
    assert np.array_equal(copy, samples)


def test_another_sample_rate_may_be_asked_for(corpus, tmp_path):
    prepared = prepare(corpus, tmp_path / "new", sample_rate=8_000, processes=1)
    assert soundfile.info(prepared / "audio" / "1-1-A-0.flac").samplerate == 8_000


def test_files_beyond_full_scale_are_clipped_and_counted(corpus, tmp_path, caplog):
    loud = corpus / "audio" / "2-2-A-1.wav"
    soundfile.write(loud, np.array([0.25, 1.5, -1.5]), 16_000, subtype="FLOAT")
    prepared = prepare(corpus, tmp_path / "new", processes=1)
    assert "1 of 2 files reached beyond full scale and were clipped" in caplog.text
    copy, _ = soundfile.read(prepared / "audio" / "2-2-A-1.flac", dtype="int16")
    assert copy.tolist() == [2**13, 2**15 - 1, -(2**15)]


def test_an_unreadable_file_is_named_after_the_others_are_converted(corpus, tmp_path):
    bad = corpus / "audio" / "0-bad.wav"
    bad.write_bytes(b"RIFFRIFF")
    message = refusal(corpus, tmp_path / "new")
    assert "1 of 3 files cannot be read" in message and str(bad) in message
    assert not (tmp_path / "new").exists()

    (part,) = tmp_path.glob("new.16000.*.part")
    assert files(part) == {"audio/1-1-A-0.flac", "audio/2-2-A-1.flac"}
    (part / "audio" / "1-1-A-0.flac").write_bytes(b"kept")
    bad.unlink()
    prepared = prepare(corpus, tmp_path / "new", processes=1)
    assert (prepared / "audio" / "1-1-A-0.flac").read_bytes() == b"kept"
    assert not part.exists()


def test_what_was_left_of_another_corpus_is_not_published(corpus, tmp_path):
    other = tmp_path / "other"
    write_tone(other / "audio" / "0.wav", 16_000)
    (other / "audio" / "bad.wav").write_bytes(b"RIFFRIFF")
    refusal(other, tmp_path / "new")  # leaves its part
    prepared = prepare(corpus, tmp_path / "new", processes=1)
    assert not (prepared / "audio" / "0.flac").exists()


def test_a_source_that_changed_or_went_since_it_broke_off_is_seen(corpus, tmp_path):
    bad, changed = corpus / "audio" / "0-bad.wav", corpus / "audio" / "2-2-A-1.wav"
    write_tone(corpus / "audio" / "gone.wav", 16_000)
    bad.write_bytes(b"RIFFRIFF")
    refusal(corpus, tmp_path / "new")
    bad.unlink()
    (corpus / "audio" / "gone.wav").unlink()
    write_tone(changed, 16_000, peak=0.1)
    prepared = prepare(corpus, tmp_path / "new", processes=1)
    assert not (prepared / "audio" / "gone.flac").exists()
    assert load_audio(prepared / "audio" / "2-2-A-1.flac").abs().max() < 0.11


def test_another_rate_is_not_there_already(corpus, tmp_path):
    prepare(corpus, tmp_path / "new", processes=1)
    assert "prepared at 16000 Hz, not 8000" in refusal(corpus, tmp_path / "new", sample_rate=8000)


def test_a_run_of_another_sample_rate_is_not_resumed(corpus, tmp_path):
    bad = corpus / "audio" / "0-bad.wav"
    bad.touch()
    refusal(corpus, tmp_path / "new", sample_rate=8_000)
    bad.unlink()
    prepared = prepare(corpus, tmp_path / "new", processes=1)
    assert soundfile.info(prepared / "audio" / "1-1-A-0.flac").samplerate == 16_000


def test_what_is_prepared_already_is_left_alone(corpus, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    prepared = prepare(corpus, tmp_path / "new", processes=1)
    before = (prepared / "audio" / "1-1-A-0.flac").stat().st_mtime_ns
    assert prepare(corpus, tmp_path / "new", processes=1) == prepared
    assert "nothing to do" in caplog.text
    assert (prepared / "audio" / "1-1-A-0.flac").stat().st_mtime_ns == before


def test_a_full_disk_is_one_clear_line_and_leaves_no_half_file(corpus, tmp_path, monkeypatch):
    def write_bytes(path, content):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    message = refusal(corpus, tmp_path / "new")
    assert "No space left on device" in message and "make room" in message
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob("new.16000.*.part/**/*.flac"))


def test_a_folder_in_use_is_left_alone(corpus, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").touch()
    assert "holds something else" in refusal(corpus, tmp_path / "mine")
    assert files(tmp_path / "mine") == {"x"}


@pytest.mark.parametrize("inner", [".", "audio/new", "../esc"])
def test_a_destination_within_the_corpus_is_refused(corpus, inner):
    assert "is within" in refusal(corpus, corpus / inner)


def test_two_files_that_would_get_one_name_are_refused(corpus, tmp_path):
    shutil.copy(corpus / "audio" / "1-1-A-0.wav", corpus / "audio" / "1-1-A-0.WAV")
    assert "would both become 1-1-A-0.flac" in refusal(corpus, tmp_path / "new")


def test_wrong_arguments_are_refused(corpus, tmp_path):
    new = tmp_path / "new"
    assert "expected an integer from 1000" in refusal(corpus, new, sample_rate=16_000.0)
    assert "expected an integer from 1000" in refusal(corpus, new, sample_rate=700_000)
    assert "no folder" in refusal(tmp_path / "absent", new, error=FileNotFoundError)
    assert "holds no audio files" in refusal(corpus / "meta", new)
    with pytest.raises(ValueError, match="processes 0"):
        prepare(corpus, new, processes=0)


def test_the_lists_of_the_real_digits_fit_their_prepared_files(recordings, tmp_path):
    digits = recordings / "spoken_digits"
    some = tmp_path / "digits"
    for name in ("validation_list.txt", "testing_list.txt"):
        entries = (digits / name).read_text().split()[::20]
        for entry in entries:
            (some / entry).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(digits / entry, some / entry)
        (some / name).write_text("\n".join(entries))
    manifest = speech_commands(prepare(some, tmp_path / "new", processes=1))
    assert (len(manifest.in_split("validation")), len(manifest.in_split("test"))) == (10, 10)
    assert {soundfile.info(clip.path).samplerate for clip in manifest.clips} == {16_000}

"""Corpora are downloaded into a folder that can be opened, once, and complete or not at all."""

import hashlib
import io
import logging
import tarfile
import zipfile
from dataclasses import replace

import pytest

from data.corpora.speech_commands import speech_commands
from data.download import corpora
from data.download.fetch import DownloadError

WORDS = ("yes/aaaa0001_nohash_0.wav", "yes/bbbb0002_nohash_0.wav", "no/cccc0003_nohash_0.wav")


def refusal(function, *arguments, **options) -> str:
    with pytest.raises(ValueError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make_zip(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


CSV = b"filename,fold,target,category,esc10\n1-1-A-0.wav,1,0,dog,True\n"


def test_esc50_is_fetched_unpacked_and_the_second_time_left_alone(server, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    server.files["/esc.zip"] = make_zip(
        ("ESC-50-master/meta/esc50.csv", CSV), ("ESC-50-master/audio/1-1-A-0.wav", b"RIFF")
    )
    for _ in range(2):
        folder = corpora.download_esc50(tmp_path / "esc50", url=f"{server.address}/esc.zip")
        assert folder == (tmp_path / "esc50").resolve()
        assert (folder / "meta" / "esc50.csv").read_bytes() == CSV
        assert (folder / "audio" / "1-1-A-0.wav").read_bytes() == b"RIFF"
        assert names(tmp_path) == ["esc50"]
    assert len(server.ranges) == 1
    assert "already: nothing to do" in caplog.text


def test_an_archive_that_somebody_keeps_beside_the_corpus_stays(server, tmp_path):
    server.files["/esc.zip"] = make_zip(
        ("ESC-50-master/meta/esc50.csv", CSV), ("ESC-50-master/audio/1-1-A-0.wav", b"RIFF")
    )
    address = f"{server.address}/esc.zip"
    corpora.download_esc50(tmp_path / "esc50", url=address)
    (tmp_path / "esc50.zip").write_bytes(b"my own")
    (tmp_path / "esc50.zip.unpacked").touch()  # as a killed call leaves it
    corpora.download_esc50(tmp_path / "esc50", url=address)
    assert names(tmp_path) == ["esc50", "esc50.zip"]
    assert (tmp_path / "esc50.zip").read_bytes() == b"my own"


def test_an_archive_without_its_audio_does_not_become_the_corpus(server, tmp_path):
    server.files["/esc.zip"] = make_zip(("ESC-50-master/meta/esc50.csv", CSV))
    message = refusal(corpora.download_esc50, tmp_path / "esc50", url=f"{server.address}/esc.zip")
    assert "esc50.zip does not hold ESC-50" in message and "1-1-A-0.wav" in message
    assert names(tmp_path) == ["esc50.zip"]


def test_esc50_is_not_fetched_into_a_folder_in_use(server, tmp_path):
    (tmp_path / "mine").touch()
    message = refusal(corpora.download_esc50, tmp_path, url=f"{server.address}/esc.zip")
    assert "choose another" in message and server.ranges == []


def make_tar(names) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name in names:
            file.addfile(tarfile.TarInfo(f"./{name}"), io.BytesIO())
    return buffer.getvalue()


@pytest.fixture
def published(server, monkeypatch):
    """A function that publishes a small V2 of the files it is given."""

    def publish(names, sha256=None):
        server.files["/v2.tar.gz"] = make_tar(names)
        source = replace(
            corpora.SPEECH_COMMANDS["v2"],
            url=f"{server.address}/v2.tar.gz",
            sha256=sha256 or hashlib.sha256(server.files["/v2.tar.gz"]).hexdigest(),
        )
        monkeypatch.setitem(corpora.SPEECH_COMMANDS, "v2", source)

    return publish


def test_speech_commands_is_fetched_unpacked_and_the_second_time_left_alone(
    server, published, tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    published([*WORDS, "validation_list.txt", "testing_list.txt", "_background_noise_/x.wav"])
    for _ in range(2):
        folder = corpora.download_speech_commands(tmp_path / "words")
        assert folder == (tmp_path / "words").resolve()
        assert len(speech_commands(folder).clips) == len(WORDS)
        assert [path.name for path in tmp_path.iterdir()] == ["words"]
    assert len(server.ranges) == 1
    assert "Speech Commands V2 is in" in caplog.text


def test_an_archive_of_another_hash_is_not_unpacked(published, tmp_path):
    published(WORDS, sha256="0" * 64)
    with pytest.raises(DownloadError, match="expected 0000"):
        corpora.download_speech_commands(tmp_path / "words")
    assert not list(tmp_path.iterdir())


def test_an_archive_without_clips_does_not_become_the_corpus(published, tmp_path):
    published(["validation_list.txt", "testing_list.txt"])
    with pytest.raises(ValueError, match=r"words\.tar\.gz does not hold Speech Commands V2"):
        corpora.download_speech_commands(tmp_path / "words")
    assert not (tmp_path / "words").exists()


@pytest.mark.parametrize(("word", "wanted"), [("backward", "v1"), ("bed", "v2")])
def test_another_version_is_not_taken_for_the_wanted_one(tmp_path, word, wanted):
    (tmp_path / word).mkdir()
    (tmp_path / "testing_list.txt").touch()
    with pytest.raises(ValueError, match=r"holds Speech Commands V[12]; give another folder"):
        corpora.download_speech_commands(tmp_path, wanted)


def test_an_unknown_version_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="'v3': use one of v2, v1"):
        corpora.download_speech_commands(tmp_path, "v3")

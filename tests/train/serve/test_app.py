import asyncio
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from tests.train.serve.conftest import wait_until
from train.inference import predict
from train.inference.detections import FORMATS, detect
from train.serve import app
from train.serve.answers import summary
from train.serve.audio import Recording, Wav
from train.serve.jobs import Job, Worker
from train.serve.tiles import Tiles


def upload(client, path):
    answer = client.post("/api/recordings", params={"name": path.name}, content=path.read_bytes())
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.mark.parametrize("name", ["short.wav", "long.flac"])
def test_a_recording_is_heard_as_predict_hears_it(opened, sounds, model_folder, name):
    recording = opened(name)
    (expected,) = predict(model_folder, sounds / name, device="cpu")
    timeline = recording.job.timeline()
    for field in ("starts", "ends", "probabilities"):
        np.testing.assert_array_equal(
            getattr(timeline, field), getattr(expected.timeline, field), err_msg=field
        )


def test_the_page_and_all_that_it_asks_for_is_there(client):
    page = client.get("/").text
    for name in ("style.css", "page.js", "icon.svg"):
        assert f"static/{name}" in page
        assert client.get(f"/static/{name}").status_code == 200
    about = client.get("/api/about").json()
    assert about["classes"] == ["dog", "rain", "costs $5 _and_ $6"]
    assert about["formats"] == list(FORMATS)


def test_an_upload_is_listed_by_the_last_part_of_its_name(client, server, sounds):
    content = (sounds / "short.wav").read_bytes()
    answer = client.post("/api/recordings", params={"name": "C:\\a/é ü\n.wav"}, content=content)
    assert answer.json()["name"] == "é ü_.wav"
    assert answer.json()["seconds"] == 0.5


def test_the_folder_is_listed_and_a_recording_opens_once(client, opened):
    listing = client.get("/api/folder").json()
    assert listing["folders"] == ["below"]
    assert listing["files"] == ["broken.wav", "long.flac", "short.wav"]
    assert client.get("/api/folder", params={"path": "below"}).json()["path"] == "below"
    assert opened("below/deep.wav") is opened("below/../below/deep.wav")
    broken = client.post("/api/recordings/open", params={"path": "broken.wav"})
    assert broken.status_code == 422
    assert "broken.wav" in broken.json()["error"]


def test_closing_a_recording_of_the_folder_leaves_its_file(client, opened, sounds):
    recording = opened("short.wav")
    assert client.delete(f"/api/recordings/{recording.id}").status_code == 204
    assert (sounds / "short.wav").is_file()
    assert client.get(f"/api/recordings/{recording.id}/audio.wav").status_code == 404


def events(server, shown, until):
    """The events of a page, up to one of a kind."""

    class Page:
        async def is_disconnected(self):
            return False

    async def read():
        found = []
        stream = server._events(Page(), shown)
        async for event in stream:
            kind, data = event.strip().removeprefix("event: ").split("\ndata: ")
            found.append((kind, json.loads(data)))
            if until(found):
                await stream.aclose()
                return found

    return asyncio.run(read())


def test_events_tell_the_recordings_and_all_windows_of_the_one_that_is_shown(server, opened):
    recording = opened("long.flac")
    opened("short.wav")
    timeline = recording.job.timeline()

    def windows(found):
        return [window for kind, data in found if kind == "windows" for window in data]

    found = events(server, recording.id, lambda f: len(windows(f)) == len(timeline.starts))
    kind, listed = found[0]
    assert kind == "recordings"
    assert [(each["name"], each["state"]) for each in listed] == [
        ("long.flac", "done"),
        ("short.wav", "done"),
    ]
    for (start, end, scores), row in zip(windows(found), timeline.probabilities, strict=True):
        assert end > start
        for number, value in scores:
            assert value == pytest.approx(float(row[number]), abs=1e-4)
    assert server.streams == 0


class Slow:
    """Stands before a model, and lets its batches through one by one."""

    def __init__(self, classifier):
        self.classifier = classifier
        self.batches = []
        self.gate = threading.Semaphore(0)

    def __getattr__(self, name):
        return getattr(self.classifier, name)

    def probabilities(self, waveforms, *arguments):
        self.gate.acquire(timeout=10)
        self.batches.append(len(waveforms))
        return self.classifier.probabilities(waveforms, *arguments)


@pytest.fixture
def slow(classifier):
    model = Slow(classifier)
    worker = Worker(model, "fp32", batch_size=2)
    yield model, worker
    model.gate.release(1000)
    worker.close()


def test_only_the_models_thread_runs_operations_on_several_cores(server):
    worker = Worker(server.worker.classifier, "fp32", threads=3)
    for pool in (server.opening, server.reading):
        assert pool.submit(torch.get_num_threads).result() == 1
    assert worker.call(torch.get_num_threads).result() == 3
    worker.close()


def test_a_clip_does_not_wait_for_a_long_recording(slow, sounds):
    model, worker = slow
    long, short = Job(sounds / "long.flac", 4.0), Job(sounds / "short.wav", 0.5)
    worker.analyse(long)
    worker.analyse(short)
    model.gate.release(2)
    wait_until(lambda: len(model.batches) == 2)
    model.gate.release(1)
    wait_until(lambda: short.state == "done")
    assert long.state == "running"
    assert 0 < long.heard < 1


def test_a_cancelled_job_keeps_what_was_heard(slow, sounds):
    model, worker = slow
    job = Job(sounds / "long.flac", 4.0)
    worker.analyse(job)
    model.gate.release(1)
    wait_until(lambda: job.pieces)
    job.cancelled = True
    model.gate.release(1)
    wait_until(lambda: job.state == "cancelled")
    assert 2 <= len(job.timeline().starts) <= 4


def test_a_file_that_breaks_off_fails_with_its_name(client, server, sounds, tmp_path):
    whole = (sounds / "long.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    recording = server.library[upload(client, tmp_path / "cut.flac")["id"]]
    wait_until(lambda: recording.job.state == "failed")
    said = summary(recording)["error"]
    assert "cut.flac" in said
    assert str(server.library.temporary) not in said


def test_the_virtual_wav_is_the_recording(client, opened, sounds):
    recording = opened("long.flac")
    path = f"/api/recordings/{recording.id}/audio.wav"
    answer = client.get(path, params={"start": 0.25, "end": 1.5})
    assert len(answer.content) == int(answer.headers["content-length"])
    heard, rate = soundfile.read(io.BytesIO(answer.content))
    expected, _ = soundfile.read(sounds / "long.flac")
    assert rate == 44_100
    np.testing.assert_allclose(heard, expected[11025:66150], atol=2 / 32768)


def test_byte_ranges_joined_are_the_whole(client, opened, monkeypatch):
    monkeypatch.setattr(app, "AUDIO_BYTES", 10_001)
    recording = opened("long.flac")
    path = f"/api/recordings/{recording.id}/audio.wav"
    whole = client.get(path).content
    assert len(whole) == 44 + 2 * 4 * 44_100
    joined = b""
    while len(joined) < len(whole):
        answer = client.get(path, headers={"Range": f"bytes={len(joined)}-"})
        assert answer.status_code == 206
        last = len(joined) + len(answer.content) - 1
        assert answer.headers["content-range"] == f"bytes {len(joined)}-{last}/{len(whole)}"
        joined += answer.content
    assert joined == whole
    for wanted, part in (("0-0", whole[:1]), ("43-47", whole[43:48]), ("-3", whole[-3:])):
        assert client.get(path, headers={"Range": f"bytes={wanted}"}).content == part
    beyond = client.get(path, headers={"Range": f"bytes={len(whole)}-"})
    assert beyond.status_code == 416
    assert beyond.headers["content-range"] == f"bytes */{len(whole)}"


@pytest.mark.parametrize("query", ["start=-1", "start=9", "start=2&end=1", "end=nan", "start=1e9"])
def test_a_span_outside_the_recording_is_refused(client, opened, query):
    recording = opened("short.wav")
    assert client.get(f"/api/recordings/{recording.id}/audio.wav?{query}").status_code == 422


def test_odd_ranges_of_a_wav(opened):
    wav = Wav(opened("short.wav"), 0.1, 0.3)
    whole = wav.read(0, wav.size)
    assert len(whole) == wav.size == 44 + 2 * 3200
    for start, end in ((0, 44), (1, 45), (44, 47), (45, 46), (101, 1000), (6443, 6444)):
        assert wav.read(start, end) == whole[start:end]


def pixels(client, recording, level, number):
    answer = client.get(f"/api/recordings/{recording.id}/tiles/{level}/{number}.png")
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def test_tiles_show_where_there_is_sound(client, opened):
    recording = opened("long.flac")
    first, second = (pixels(client, recording, 0, number) for number in (0, 1))
    assert first.shape == (128, 256)
    assert second.shape == (128, 400 - 256)
    tile = np.hstack([first, second]).astype(float).mean(0)
    assert tile[:95].min() > tile[105:290].max()
    assert tile[305:].min() > tile[105:290].max()
    coarse = pixels(client, recording, 3, 0).astype(float).mean(0)
    assert len(coarse) == 50
    assert coarse[:11].min() > coarse[14:36].max()


def test_tiles_of_hours_read_little(classifier, opened, monkeypatch):
    recording = opened("long.flac")
    recording.header = recording.header._replace(samples=24 * 3600 * 44_100)
    read, whole = [], Recording.waveforms

    def counted(self, starts, seconds, rate):
        read.append(len(starts) * seconds)
        return whole(self, starts, seconds, rate)

    monkeypatch.setattr(Recording, "waveforms", counted)
    Tiles(classifier.frontend.fbank).png(recording, 15, 0)
    assert 0 < sum(read) < 60


def test_tiles_that_are_kept_have_a_bound(classifier, opened, monkeypatch):
    tiles = Tiles(classifier.frontend.fbank)
    recording = opened("long.flac")
    one = len(tiles.png(recording, 0, 0))
    monkeypatch.setattr("train.serve.tiles.CACHE_BYTES", int(1.5 * one))
    for level in range(4):
        tiles.png(recording, level, 0)
    assert tiles._size == sum(map(len, tiles._kept.values())) <= 1.5 * one


@pytest.mark.parametrize("path", ["0/2", "99/0", "0/99999999999999999999"])
def test_there_is_no_tile_beyond_the_recording(client, opened, path):
    recording = opened("long.flac")
    assert client.get(f"/api/recordings/{recording.id}/tiles/{path}.png").status_code == 422


def test_attention_of_a_window(client, opened, classifier):
    recording = opened("long.flac")
    path = f"/api/recordings/{recording.id}/attention"
    found = client.get(path, params={"start": 3}).json()
    waveform = recording.waveforms([3], 1, 16_000)[0][: classifier.window_size]
    expected = classifier.attention_map(waveform)
    np.testing.assert_allclose(found["values"], expected * expected.numel(), atol=1e-3)
    assert client.get(path, params={"start": 4}).status_code == 422


@pytest.mark.parametrize("form", FORMATS)
def test_downloads_are_what_predict_writes(client, opened, sounds, model_folder, tmp_path, form):
    recording = opened("long.flac")
    answer = client.get(
        f"/api/recordings/{recording.id}/detections", params={"format": form, "threshold": 0.3}
    )
    assert answer.status_code == 200
    out = tmp_path / "tables"
    detect(
        *(model_folder, sounds / "long.flac", out, form),
        threshold=0.3, merge_gap=0.0, device="cpu",
    )  # fmt: skip
    name = f"long{FORMATS[form].suffix}"
    assert answer.headers["content-disposition"] == f"attachment; filename*=UTF-8''{name}"
    assert answer.content == (out / name).read_bytes()


def test_a_download_needs_a_known_format_and_a_probability(client, opened):
    recording = opened("short.wav")
    path = f"/api/recordings/{recording.id}/detections"
    for query in ("format=xls", "threshold=2", "threshold=x"):
        assert client.get(f"{path}?{query}").status_code == 422


def test_programs_that_ask_together_each_get_their_own_answer(client, classifier, tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.wav" for number in range(24)]
    for number, path in enumerate(paths):
        soundfile.write(path, rng.uniform(-1, 1, 8_000) / (1 + number), 16_000)
    with ThreadPoolExecutor(12) as pool:
        answers = pool.map(
            lambda path: client.post("/api/predict?top_k=3", content=path.read_bytes()), paths
        )
    for path, answer in zip(paths, answers, strict=True):
        assert answer.status_code == 200, answer.text
        found = {each["class"]: each["probability"] for each in answer.json()["classes"]}
        assert found == pytest.approx(dict(classifier.classify(path, top_k=3)), abs=1e-5)


def test_requests_that_wait_run_in_one_batch(slow):
    model, worker = slow
    clips = [worker.probabilities(waveform) for waveform in torch.rand(5, 8_000)]
    model.gate.release(2)
    rows = [clip.result(10) for clip in clips]
    assert sum(model.batches) == 5
    assert len(model.batches) <= 2
    assert len({tuple(row.tolist()) for row in rows}) == 5


def test_clips_that_are_broken_long_or_short_are_refused(client, server, sounds):
    for content, words in (
        (b"junk", "the clip"),
        ((sounds / "long.flac").read_bytes(), "lasts"),
        (wav_bytes(np.zeros(100)), "25 ms"),
    ):
        answer = client.post("/api/predict", content=content)
        assert answer.status_code == 422
        assert words in answer.json()["error"]
    assert not list(server.library.temporary.iterdir())


def wav_bytes(samples):
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV")
    return file.getvalue()

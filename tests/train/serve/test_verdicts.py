"""Verdicts that the page sends: kept as `review` reads them, and what is none is refused."""

import asyncio
import csv
import io
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlencode

import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient

from tests.train.serve.conftest import wait_until
from train.inference.listening import review
from train.serve import app, library
from train.serve.app import create_app
from train.serve.jobs import Worker


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "heard"


@pytest.fixture
def client(start, folder):
    """A server that keeps verdicts in `folder`."""
    return start(verdicts=folder)


def segments(recording, threshold=0.3):
    return recording.job.timeline().segments(threshold)


def judge(client, recording, segment, verdict, changes=()):
    start, end, label, _ = segment
    query = {"class": label, "start": f"{start:.6f}", "end": f"{end:.6f}", "verdict": verdict}
    query = {name: value for name, value in (query | dict(changes)).items() if value is not None}
    return client.post(f"/api/recordings/{recording.id}/verdict", params=query)


def read(folder):
    with (folder / "segments.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_verdict_is_a_row_of_the_table_with_its_segment(client, opened, folder, sounds):
    recording = opened("long.flac")
    (first, second, *_) = found = segments(recording)
    assert len(found) > 1
    assert judge(client, recording, first, "yes").json()["count"] == 1
    answer = judge(client, recording, second, "no").json()
    assert answer["count"] == 2
    assert [verdict for *_, verdict in answer["here"]] == ["yes", "no"]
    for row, (start, end, label, score) in zip(read(folder), found, strict=False):
        assert row["recording"] == str(sounds / "long.flac")
        expected = pytest.approx((start, end, score), abs=2e-6)
        assert (float(row["start"]), float(row["end"]), float(row["score"])) == expected
        assert row["label"] == label
        samples, rate = soundfile.read(folder / row["path"], dtype="int16")
        whole, _ = soundfile.read(sounds / "long.flac", dtype="int16")
        begin = round(float(row["segment_start"]) * rate)
        np.testing.assert_array_equal(samples, whole[begin : begin + len(samples)])
    assert sum(each.right + each.wrong for each in review(folder).classes) == 2


def test_a_verdict_is_changed_and_taken_back(client, opened, folder):
    recording = opened("long.flac")
    segment = segments(recording)[0]
    for verdict in ("yes", "no", "unsure", "rain"):
        (row,) = judge(client, recording, segment, verdict).json()["here"]
        assert row[3] == verdict
    answer = judge(client, recording, segment, "").json()
    assert answer == {"revision": 5, "count": 0, "here": []}
    assert read(folder) == [] and not [*folder.rglob("*.flac")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "maybe"}, "verdict 'maybe': expected yes, no, unsure"),
        ({"verdict": "y" * 5_000}, "expected yes, no, unsure"),
        ({"verdict": None}, "verdict is missing"),
        ({"class": "cat"}, "the model has no class 'cat'"),
        ({"class": None}, "the model has no class None"),
        ({"start": "-1"}, "start '-1' is not a number"),
        ({"start": None}, "start 'nan' is not a number"),
        ({"end": "inf"}, "end 'inf' is not a number"),
        ({"start": "3", "end": "2"}, "no windows go from 3 to 2 s"),
        ({"end": "4.5"}, "no windows go from"),
        ({"start": "0.123"}, "no windows go from 0.123"),
        ({"start": "400", "end": "500"}, "no windows go from 400 to 500 s"),
        ({"end": "99999"}, "longer than 600 s"),
    ],
)
def test_what_is_no_verdict_on_a_segment_is_refused_in_a_line(
    client, opened, folder, changes, message
):
    recording = opened("long.flac")
    answer = judge(client, recording, segments(recording)[0], "yes", changes)
    assert answer.status_code == 422
    assert message in answer.json()["error"] and "\n" not in answer.json()["error"]
    assert len(answer.json()["error"]) < 500
    assert not folder.exists()


def test_a_recording_that_is_not_open_has_no_verdicts(client, opened, folder):
    recording = opened("long.flac")
    segment = segments(recording)[0]
    assert client.delete(f"/api/recordings/{recording.id}").status_code == 204
    answer = judge(client, recording, segment, "yes")
    assert answer.status_code == 404 and "not open" in answer.json()["error"]
    assert not folder.exists()


def test_other_sites_and_strangers_give_no_verdicts(start, sounds, folder):
    client = start(verdicts=folder, token="a-token")
    own = {"Authorization": "Bearer a-token"}
    content = (sounds / "short.wav").read_bytes()
    opened = client.post("/api/recordings?name=a.wav", content=content, headers=own).json()
    path = f"/api/recordings/{opened['id']}/verdict"
    query = {"class": "dog", "start": "0", "end": "0.5", "verdict": "yes"}
    assert client.post(path, params=query).status_code == 401
    for header in (
        {"Origin": "http://evil.example"},
        {"Host": "evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        for refused in (client.post(path, params=query, headers=own | header),
                        client.get("/api/verdicts.zip", headers=own | header)):  # fmt: skip
            assert refused.status_code == 403
    assert client.get(path, params=query, headers=own).status_code == 405
    assert not folder.exists()


def test_a_full_disk_is_said(client, opened, folder, monkeypatch):
    recording = opened("long.flac")
    monkeypatch.setattr(library, "FREE_BYTES", 2**63)
    answer = judge(client, recording, segments(recording)[0], "yes")
    assert answer.status_code == 507 and "not kept" in answer.json()["error"]
    assert not folder.exists()


def test_several_who_judge_at_a_time_lose_nothing(client, opened, folder):
    recordings = [opened("long.flac"), opened("below/deep.wav")]
    each = [(one, segment) for one in recordings for segment in segments(one, 0.1)]
    assert len(each) > 4
    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda pair: judge(client, *pair, "no"), each)]
    assert {answer.status_code for answer in answers} == {200}
    assert len(read(folder)) == len(each) == len([*folder.rglob("*.flac")])


def test_the_verdicts_of_an_earlier_server_are_there(start, opened, client, folder, server):
    recording = opened("long.flac")
    judge(client, recording, segments(recording)[0], "unsure")
    other = app.Server(server.worker, "tiny", None, server.library.temporary, folder)
    assert other._verdicts(recording)["here"][0][3] == "unsure"


def test_uploads_of_one_name_are_told_apart_and_the_same_one_is_known(client, sounds, server):
    ids = []
    for file in ("short.wav", "below/deep.wav", "short.wav"):
        content = (sounds / file).read_bytes()
        answer = client.post("/api/recordings", params={"name": "a.wav"}, content=content)
        ids.append(answer.json()["id"])
    first, other, again = (server.library[each].place for each in ids)
    assert first == again != other and first.name == other.name == "a.wav"


def test_pages_are_told_the_verdicts_as_they_are_given(client, opened, server):
    recording = opened("long.flac")
    segment = segments(recording)[0]

    class Page:
        async def is_disconnected(self):
            return False

    async def read():
        told, stream = [], server._events(Page(), recording.id)
        async for event in stream:
            if event.startswith("event: verdicts"):
                told.append(json.loads(event.partition("data: ")[2]))
                verdict = ("yes", "no", None)[len(told) - 1]
                if verdict is None:
                    await stream.aclose()
                    return told
                await asyncio.to_thread(judge, client, recording, segment, verdict)

    told = asyncio.run(read())
    assert [[row[3] for row in each["here"]] for each in told] == [[], ["yes"], ["no"]]


def test_without_a_folder_they_are_a_zip_that_review_reads(start, sounds, tmp_path):
    client = start()
    assert client.get("/api/about").json()["verdicts"] is None
    assert client.get("/api/verdicts.zip").status_code == 422
    server = client.app.routes[0].endpoint.__self__
    content = (sounds / "long.flac").read_bytes()
    opened = client.post("/api/recordings", params={"name": "a.flac"}, content=content).json()
    recording = server.library[opened["id"]]
    wait_until(lambda: recording.job.state == "done")
    judge(client, recording, segments(recording)[0], "yes")
    client.delete(f"/api/recordings/{recording.id}")
    answer = client.get("/api/verdicts.zip")
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''verdicts.zip"
    zipfile.ZipFile(io.BytesIO(answer.content)).extractall(tmp_path)
    assert review(tmp_path / "verdicts").classes[0].right == 1
    assert {path.name for path in server.library.temporary.iterdir()} == {"verdicts"}


@pytest.mark.slow
def test_a_server_that_is_killed_has_kept_them(model_folder, sounds, folder, tmp_path):
    words = ["serve", str(model_folder), "--port", "0", "--verdicts", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-m", "train", *words, "--folder", str(sounds)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        address = next(line for line in process.stdout if line.startswith("http")).split()[0]
        opened = post(address, "api/recordings/open", path="short.wav")
        query = {"class": "dog", "start": "0", "end": "0.5"}
        path = f"api/recordings/{opened['id']}/verdict"

        def is_kept():
            with suppress(urllib.error.HTTPError):  # until it was analysed
                return post(address, path, **query, verdict="no")

        wait_until(is_kept)
        post(address, path, **query, verdict="yes")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert [row["verdict"] for row in read(folder)] == ["yes"]
    assert review(folder).classes[0].right == 1


def post(address, place, **query):
    request = urllib.request.Request(f"{address}{place}?{urlencode(query)}", method="POST")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def test_what_was_judged_is_reviewed_and_trained_by_the_commands(
    classifier, corpus_folder, folder, tiny, run_command, tmp_path
):
    served = create_app(Worker(classifier, "fp32"), "tiny", corpus_folder, verdicts=folder)
    with TestClient(served, base_url="http://localhost:8765") as client:
        library = served.routes[0].endpoint.__self__.library
        for number, path in enumerate(sorted(corpus_folder.rglob("*.wav"))[:20]):
            below = path.relative_to(corpus_folder).as_posix()
            opened = client.post("/api/recordings/open", params={"path": below}).json()
            recording = library[opened["id"]]
            wait_until(lambda job=recording.job: job.state == "done")
            verdict = ("yes", "rain", "dog", "no", "unsure")[number % 5]
            answer = judge(client, recording, segments(recording)[0], verdict)
            assert answer.status_code == 200, answer.text
    code, out, err = run_command("review", folder / "segments.csv")
    assert code == 0 and "of the segments that a person chose" in out, err
    words = ["--data", folder / "segments.csv", "--out", tmp_path / "run", *tiny]
    code, out, err = run_command("train", "demo", *words, "--corpus", "table")
    assert code == 0, err
    assert "segments with verdict yes," in out and "4 no, 4 unsure" in out

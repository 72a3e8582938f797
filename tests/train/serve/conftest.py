"""A server in this process, and recordings for it."""

import time

import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient

from train.serve.app import create_app
from train.serve.jobs import Worker


@pytest.fixture
def sounds(tmp_path):
    """`short.wav`, 0.5 s; `long.flac`, 4 s at 44.1 kHz, silent in its middle; `below/deep.wav`."""
    folder = tmp_path / "sounds"
    (folder / "below").mkdir(parents=True)
    rng = np.random.default_rng(0)
    long = rng.uniform(-0.3, 0.3, 4 * 44_100)
    long[44_100 : 3 * 44_100] = 0
    soundfile.write(folder / "short.wav", rng.uniform(-0.3, 0.3, 8_000), 16_000)
    soundfile.write(folder / "long.flac", long, 44_100)
    soundfile.write(folder / "below" / "deep.wav", rng.uniform(-0.3, 0.3, 16_000), 16_000)
    (folder / "broken.wav").write_bytes(b"RIFF0000WAVEjunk")
    soundfile.write(tmp_path / "outside.wav", np.zeros(16_000), 16_000)
    return folder


@pytest.fixture
def start(classifier, sounds):
    """Starts an application; the arguments are those of `create_app` after the folder."""
    clients = []

    def start(host="localhost", **options):
        app = create_app(Worker(classifier, "fp32"), "tiny", sounds, **options)
        client = TestClient(app, base_url=f"http://{host}:8765")
        clients.append(client)
        return client.__enter__()

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(start):
    return start()


@pytest.fixture
def server(client):
    """What the routes of `client` belong to."""
    return client.app.routes[0].endpoint.__self__


@pytest.fixture
def opened(client, server):
    """Opens a recording of the folder and waits for the end of its analysis."""

    def opened(path):
        answer = client.post("/api/recordings/open", params={"path": path})
        assert answer.status_code == 200, answer.text
        recording = server.library[answer.json()["id"]]
        wait_until(lambda: recording.job.state in ("done", "failed", "cancelled"))
        return recording

    return opened


def wait_until(true, seconds=10):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from tests.train.cli.conftest import fails  # noqa: F401
from train.serve.server import _listen


def test_what_cannot_be_served_is_said_in_a_line(fails, model_folder, tmp_path):  # noqa: F811
    assert "no folder" in fails("serve", model_folder, "--folder", tmp_path / "nothing")
    verdicts = ("serve", model_folder, "--verdicts")
    assert "a folder of something else" in fails(*verdicts, model_folder)
    assert "is a file" in fails(*verdicts, model_folder / "config.json")
    assert "--port 70000" in fails("serve", model_folder, "--port", "70000")
    assert "no file or folder" in fails("serve", tmp_path / "nothing", "--port", "0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "choose another" in fails("serve", model_folder, "--port", str(port))


def test_connections_send_without_waiting_for_what_was_acknowledged():
    listener, _ = _listen("127.0.0.1", 0)
    with listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_serves_until_it_is_told_to_end_and_leaves_nothing(model_folder, sounds, tmp_path, end):
    words = ["serve", str(model_folder), "--folder", str(sounds), "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "train", *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with process:
        address = next(line for line in process.stdout if line.startswith("http")).split()[0]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}api/folder") as answer:
            assert "short.wav" in json.load(answer)["files"]
        content = (sounds / "short.wav").read_bytes()
        urllib.request.urlopen(f"{address}api/recordings?name=a.wav", data=content).close()
        assert list(tmp_path.glob("ast-audio-serve-*/*.wav"))
        process.send_signal(end)
        code = process.wait(20)
    assert code == (0 if end == signal.SIGINT else -signal.SIGTERM)
    assert not list(tmp_path.glob("ast-audio-serve-*"))

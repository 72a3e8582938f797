"""What the tests of several rooms share: real recordings, and a server on this machine."""

import gc
import http.server
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder with `esc10/` and `spoken_digits/`: `AST_TEST_DATA`, else `../shared/data`."""
    folder = Path(os.environ.get("AST_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "esc10" / "meta" / "esc50.csv").is_file():
        pytest.skip(f"no recordings in {folder}: set AST_TEST_DATA to a folder that holds esc10/")
    return folder


@pytest.fixture(autouse=True, scope="session")
def own_caches(tmp_path_factory) -> Iterator[None]:
    """The user's caches stay as they are, of programs that the tests start too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        yield


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """The tests' networks are too small to be worth a second thread, in programs they start too."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture
def tensors_alive() -> Callable[[torch.nn.Module], list[int]]:
    """Counts all tensors whenever a module is called; where they grow, memory is scattered."""

    def watch(module: torch.nn.Module) -> list[int]:
        counts: list[int] = []

        def count(*_: object) -> None:
            counts.append(sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects()))

        module.register_forward_pre_hook(count)
        return counts

    return watch


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`; the other attributes of the server spoil its answers."""

    def do_HEAD(self):
        self.answer(None)

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        self.answer(wanted if self.server.knows_ranges else None)

    def answer(self, wanted: str | None) -> None:
        server, path = self.server, self.path.partition("?")[0]
        content = server.files.get(path)
        if content is None:
            status, headers = server.refusals.get(path, (404, {}))
            return self.begin(status, headers)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        if start >= len(content):
            return self.begin(416, {"Content-Range": f"bytes */{len(content)}"})
        headers = dict(server.headers.get(path, {}))
        if start:
            first = start + server.range_shift
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        if server.tells_length:
            headers["Content-Length"] = str(len(content) - start)
        self.begin(206 if start else 200, headers)
        if self.command == "GET":
            with suppress(ConnectionError):  # a client that has seen enough hangs up
                self.wfile.write(content[start : server.breaks_off_at])

    def begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server at `server.address`.

    files: path to content; headers: path to what goes with the content; refusals: path to status
    and headers, where there is no content. ranges: the Range header of every GET so far.
    """
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.headers, server.refusals, server.ranges = {}, {}, {}, []
    server.knows_ranges = server.tells_length = True
    server.range_shift, server.breaks_off_at = 0, None
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()

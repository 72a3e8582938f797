import asyncio
import socket
import threading
import time

import numpy as np
import pytest
import uvicorn

from tests.train.serve.conftest import wait_until
from train.serve import app, library, security, server
from train.serve.jobs import Worker

TOKEN = "a-token"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8765",
        "localhost.evil.example",
        "192.168.0.7",
        "",
        "[::1",
        "a@b@",
    ],
)
def test_another_host_is_refused(client, host):
    assert client.get("/api/about", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9000", "[::1]:8765", "LOCALHOST:1"])
def test_this_machine_is_served_through_a_tunnel_as_well(client, host):
    assert client.get("/api/about", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:3000", "http://localhost"]
)
def test_another_origin_is_refused(client, origin):
    assert client.get("/api/about", headers={"Origin": origin}).status_code == 403
    for path in ("/api/predict", "/api/recordings"):
        assert client.post(path, headers={"Origin": origin}).status_code == 403


def test_the_own_origin_is_served(client):
    assert client.get("/api/about", headers={"Origin": "http://localhost:8765"}).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_another_site_loads_is_refused_but_a_link_is_followed(client, site):
    image = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
    link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
    assert client.get("/api/about", headers=image).status_code == 403
    assert client.get("/", headers=image).status_code == 403
    assert client.get("/api/about", headers=link).status_code == 403
    assert client.post("/", headers=link).status_code == 403
    assert client.get("/", headers=link).status_code == 200


def test_answers_forbid_other_hosts_frames_and_guessing_of_types(client):
    for path in ("/", "/static/page.js", "/api/about", "/nothing"):
        headers = client.get(path).headers
        policy = headers["Content-Security-Policy"].split("; ")
        assert policy[0] == "default-src 'none'"
        assert "frame-ancestors 'none'" in policy
        assert not [each for each in policy if "http" in each or "unsafe" in each or "*" in each]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    refused = client.get("/", headers={"Host": "evil.example"})
    assert "Content-Security-Policy" in refused.headers


class TestToken:
    @pytest.fixture
    def client(self, start):
        return start("192.168.0.7", hosts={"lab.example"}, token=TOKEN)

    @pytest.mark.parametrize("path", ["/", "/static/page.js", "/api/about", "/api/folder"])
    def test_nothing_without_it(self, client, path):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"Authorization": "Bearer a-tokem"}).status_code == 401
        wrong = {"Cookie": "ast_audio_8765=other"}
        assert client.get(path, headers=wrong).status_code == 401

    def test_the_address_of_the_page_sets_a_cookie(self, client):
        assert client.get("/", params={"token": "wrong"}).status_code == 401
        answer = client.get("/", params={"token": TOKEN})
        assert answer.status_code == 200
        assert "HttpOnly" in answer.headers["set-cookie"]
        assert "SameSite=Strict" in answer.headers["set-cookie"]
        assert client.get("/api/about").status_code == 200  # the client keeps the cookie

    def test_only_the_page_takes_it_from_the_address(self, client):
        assert client.get("/api/about", params={"token": TOKEN}).status_code == 401

    def test_programs_send_it_in_a_header(self, client):
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert client.get("/api/about", headers=headers).status_code == 200

    def test_it_does_not_stand_in_for_host_and_origin(self, client):
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            assert client.get("/api/about", headers={**bearer, **headers}).status_code == 403

    def test_the_names_that_were_given_are_served(self, client):
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        for host in ("lab.example:8765", "10.0.0.1", "localhost"):
            assert client.get("/api/about", headers={**bearer, "Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("../outside.wav", 403),
        ("below/../../outside.wav", 403),
        ("/etc/passwd", 403),
        ("link.wav", 403),
        ("elsewhere/outside.wav", 403),
        ("nothing.wav", 404),
        ("below", 404),
        ("a\0b", 404),
        ("loop", 404),
    ],
)
def test_no_path_leaves_the_folder(client, server, sounds, path, status):
    (sounds / "link.wav").symlink_to(sounds.parent / "outside.wav")
    (sounds / "elsewhere").symlink_to(sounds.parent)
    (sounds / "loop").symlink_to(sounds / "loop")
    assert client.post("/api/recordings/open", params={"path": path}).status_code == status
    assert not server.library.recordings


@pytest.mark.parametrize("path", ["..", "/etc", "elsewhere", "below/../.."])
def test_no_listing_leaves_the_folder(client, sounds, path):
    (sounds / "elsewhere").symlink_to(sounds.parent)
    assert client.get("/api/folder", params={"path": path}).status_code == 403


def test_static_files_do_not_leave_their_folder(client):
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py"):
        assert client.get(path).status_code == 404


def test_a_body_too_large_is_refused_and_removed(client, server, monkeypatch):
    monkeypatch.setattr(app, "UPLOAD_BYTES", 1000)
    assert client.post("/api/recordings", content=b"x" * 1001).status_code == 413
    chunked = client.post("/api/recordings", content=(b"x" * 100 for _ in range(11)))
    assert chunked.status_code == 413
    assert not list(server.library.temporary.iterdir())
    assert server.library.uploaded_bytes == 0


def test_uploads_together_are_limited_and_closing_makes_room(client, server, sounds, monkeypatch):
    content = (sounds / "short.wav").read_bytes()
    monkeypatch.setattr(library, "ALL_UPLOAD_BYTES", len(content) + 10)
    first = client.post("/api/recordings", content=content)
    assert first.status_code == 201
    assert client.post("/api/recordings", content=content).status_code == 507
    assert client.delete(f"/api/recordings/{first.json()['id']}").status_code == 204
    assert not list(server.library.temporary.iterdir())
    assert client.post("/api/recordings", content=content).status_code == 201


def test_a_full_disk_is_left_some_room(client, server, sounds, monkeypatch):
    monkeypatch.setattr(library, "FREE_BYTES", 2**62)
    answer = client.post("/api/recordings", content=(sounds / "short.wav").read_bytes())
    assert answer.status_code == 507
    assert not list(server.library.temporary.iterdir())


def test_the_number_of_recordings_is_limited(client, server, sounds, monkeypatch):
    monkeypatch.setattr(library, "MOST_RECORDINGS", 1)
    content = (sounds / "short.wav").read_bytes()
    assert client.post("/api/recordings", content=content).status_code == 201
    assert client.post("/api/recordings", content=content).status_code == 409
    assert len(list(server.library.temporary.iterdir())) == 1


def test_uploads_are_private_and_go_with_the_server(start, sounds):
    client = start()
    temporary = client.app.routes[0].endpoint.__self__.library.temporary
    client.post("/api/recordings", content=(sounds / "short.wav").read_bytes())
    assert list(temporary.iterdir())
    assert temporary.stat().st_mode & 0o077 == 0
    client.__exit__(None, None, None)
    assert not temporary.exists()
    client.__enter__()  # the fixture leaves it once more


def test_too_many_requests_that_wait_are_refused(client, server, opened, monkeypatch):
    recording = opened("short.wav")
    monkeypatch.setattr(app, "MOST_WAITING", 0)
    assert client.get(f"/api/recordings/{recording.id}/tiles/0/0.png").status_code == 503
    assert client.post("/api/predict", content=b"x").status_code == 503


def body_in(pieces, pauses):
    """What `body_of` makes of a body that comes with pauses."""

    async def receive():
        await asyncio.sleep(pauses)
        more = bool(pieces)
        return {"type": "http.request", "body": pieces.pop() if pieces else b"", "more_body": more}

    async def read():
        request = security.Request({"type": "http", "headers": []}, receive)
        return [piece async for piece in security.body_of(request, 1000)]

    return asyncio.run(read())


@pytest.mark.parametrize("length", ["1001", "-1", "x"])
def test_a_body_that_announces_too_much_is_not_read(length):
    async def read():
        scope = {"type": "http", "headers": [(b"content-length", length.encode())]}
        await anext(security.body_of(security.Request(scope), 1000))  # it has nothing to receive

    with pytest.raises(security.HTTPException) as refused:
        asyncio.run(read())
    assert refused.value.status_code == 413


def test_a_body_that_stops_is_dropped(monkeypatch):
    monkeypatch.setattr(security, "SILENCE", 0.05)
    start = time.monotonic()
    with pytest.raises(security.HTTPException) as refused:
        body_in([b"x"], 3)
    assert time.monotonic() - start < 2
    assert refused.value.status_code == 408


def test_a_body_that_trickles_is_dropped(monkeypatch):
    monkeypatch.setattr(security, "SILENCE", 0.2)
    assert b"".join(body_in([b"x"] * 100, 0)) == b"x" * 100
    with pytest.raises(security.HTTPException) as refused:
        body_in([b"x"] * 100, 0.01)
    assert refused.value.status_code == 408


def test_slow_clients_lose_their_connection_while_others_are_served(
    classifier, sounds, monkeypatch
):
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.3)
    page = app.create_app(Worker(classifier, "fp32"), "tiny", sounds)
    config = uvicorn.Config(page, http=server._Impatient, ws="none", log_config=None, port=0)
    running = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: running.started)
        address = listener.getsockname()
        slow = [socket.create_connection(address, 5) for _ in range(50)]
        for client in slow[1:]:
            client.sendall(b"GET / HTTP/1.1\r\nHost: local")
        start = time.monotonic()
        with socket.create_connection(address, 5) as other:
            other.sendall(b"GET /api/about HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200 OK" in other.recv(100)
        assert time.monotonic() - start < 2
        for client in slow:
            assert client.recv(1000) == b""
            client.close()
        assert time.monotonic() - start < 4
    finally:
        running.should_exit = True
        thread.join()


def test_broken_files_are_refused_without_the_servers_paths(client, server):
    noise = np.random.default_rng(0).bytes(5000)
    for content in (b"", b"RIFF", noise, b"fLaC" + noise, b"OggS" + noise):
        answer = client.post("/api/recordings", params={"name": "../x\n.wav"}, content=content)
        assert answer.status_code == 422
        assert "x_.wav" in answer.json()["error"]
        assert str(server.library.temporary) not in answer.text
    assert not list(server.library.temporary.iterdir())

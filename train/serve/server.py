"""The server itself: a model, an address, connections with limits."""

from __future__ import annotations

import ipaddress
import logging
import secrets
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from train.device import in_one_thread
from train.inference.listening.verdicts import require_own
from train.inference.models import load_model
from train.serve.app import create_app
from train.serve.jobs import Worker

HEADER_SECONDS = 15.0  # that a client has to send the head of a request
MOST_CONNECTIONS = 512


class Address(NamedTuple):
    """Where the page is."""

    url: str  # with the token, if there is one
    token: str | None


class _Impatient(H11Protocol):
    """Closes connections on which the head of a request does not come to its end."""

    _deadline = None

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def serve(
    model: str | Path,
    folder: Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    precision: str = "fp32",
    device: str = "auto",
    batch_size: int = 8,
    verdicts: Path | None = None,
    started: Callable[[Address], None] = lambda address: None,
) -> None:
    """Serve the page until the process is interrupted.

    On the local machine only, unless `host` names an address of another network: then requests have
    to bring a token, which is part of the address of the page.

    Args:
        model: run folder (its `last/`), or what `weights.load` takes.
        folder: of recordings that may be browsed.
        host: name or address to listen on.
        port: 0 takes a free one.
        precision, device: as in `predict`.
        batch_size: windows that run through the model at a time.
        verdicts: folder that gets the verdicts given on the page and their segments, as `Verdicts`
            takes it; None: the page offers them for download until the process ends.
        started: is told the address once the server listens.

    Raises:
        FileNotFoundError, ValueError: the model cannot be read, there is no such folder, or that
            of the verdicts holds something else.
        OSError: the address cannot be listened on.
    """
    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; name one with recordings")
    if verdicts is not None:
        require_own(verdicts)
    listener, is_local = _listen(host, port)
    # Only the model's thread has PyTorch run on several cores: where the teams of several threads
    # are more than the cores, OpenMP lets each sleep between two operations, and one clip takes
    # twice the time.
    with listener, in_one_thread() as threads:
        classifier, precision = load_model(model, device, precision)
        worker = Worker(classifier, precision, batch_size, threads)
        token = None if is_local else secrets.token_urlsafe(24)
        hosts = None if is_local else {host.lower(), socket.gethostname().lower()}
        app = create_app(worker, Path(model).name, folder, hosts, token, verdicts)
        config = uvicorn.Config(
            app,
            http=_Impatient,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=int(HEADER_SECONDS),
            timeout_graceful_shutdown=1,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        started(_address(listener, host, token))
        _end_with_the_terminal()
        uvicorn.Server(config).run(sockets=[listener])


def _end_with_the_terminal() -> None:
    """Have SIGHUP end the server as SIGTERM does, so that uploads are removed; nohup ignores it."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGHUP"):
        return
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def _listen(host: str, port: int) -> tuple[socket.socket, bool]:
    """A socket that listens, and whether only this machine reaches it."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family)
        # Connections inherit it. asyncio sets it only where a socket names TCP as its protocol, and
        # without it the second half of an answer waits 40 ms for the first to be acknowledged.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise OSError(
            f"cannot listen on {host}, port {port} ({error.strerror or error}); choose another"
        ) from error
    return listener, ipaddress.ip_address(address[0]).is_loopback


def _address(listener: socket.socket, host: str, token: str | None) -> Address:
    address, port = listener.getsockname()[:2]
    everywhere = ipaddress.ip_address(address).is_unspecified
    name = socket.gethostname() if everywhere else f"[{host}]" if ":" in host else host
    return Address(f"http://{name}:{port}/" + (f"?token={token}" if token else ""), token)

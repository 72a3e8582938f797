"""What the page and programs can ask for."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, BinaryIO, TypeVar

import torch
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ast_model.timeline import likeliest
from data import load_audio
from train.device import run_in_threads
from train.inference.detections import FORMATS, Heard, Table, choose
from train.inference.listening import Verdicts
from train.inference.listening.tables import Detection
from train.inference.season import absolute
from train.serve.answers import attachment, number_of, span_of, summary, windows_of
from train.serve.audio import LONGEST_WAV, Recording, Wav
from train.serve.jobs import Worker
from train.serve.library import MOST_RECORDINGS, UPLOAD_BYTES, Library, is_full
from train.serve.security import Guard, body_of
from train.serve.tiles import COLUMNS, Tiles

STATIC = Path(__file__).parent / "static"
CLIP_BYTES = 64 * 2**20  # of a clip that a program sends
MOST_WAITING = 256  # requests that wait for a thread; more are refused
UPLOADS_AT_ONCE = 8
STREAMS = 32  # pages that follow what happens
AUDIO_BYTES = 2**20  # of an answer; a player asks for more
POLL = 0.1  # seconds between two looks at the jobs
HEARTBEAT = 15.0  # seconds

Result = TypeVar("Result")


class Server:
    """A model, the recordings that are open, and the threads that read and draw them."""

    def __init__(
        self,
        worker: Worker,
        model: str,
        folder: Path | None,
        temporary: Path,
        verdicts: Path | None = None,
    ) -> None:
        self.worker = worker
        self.model = model
        self.library = Library(worker, temporary, folder)
        self.verdicts = Verdicts(verdicts or temporary / "verdicts", worker.classifier.classes)
        self.verdicts_stay = verdicts is not None
        self.tiles = Tiles(worker.classifier.frontend.fbank)
        self.opening, self.reading = (
            ThreadPoolExecutor(count, name, run_in_threads, (1,))  # see `serve`
            for count, name in ((1, "open"), (2, "read"))
        )
        self.waiting = self.uploads = self.streams = 0

    def close(self) -> None:
        for recording in self.library.recordings.values():
            recording.job.cancelled = True
        self.worker.close()
        for pool in (self.opening, self.reading):
            pool.shutdown(cancel_futures=True)

    async def run(self, pool: ThreadPoolExecutor, function: Callable[[], Result]) -> Result:
        """What a function returns that runs in a thread; HTTPException where too many wait."""
        if self.waiting >= MOST_WAITING:
            raise HTTPException(503, "too many requests wait; try again", {"Retry-After": "1"})
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, function)
        except (ValueError, OSError) as error:
            reason = " ".join(str(error).split()).replace(f"{self.library.temporary}/", "")
            raise HTTPException(422, reason) from error
        finally:
            self.waiting -= 1

    # The page

    async def page(self, request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def about(self, request: Request) -> Response:
        """What the page has to know of the model and the server."""
        classifier = self.worker.classifier
        return JSONResponse(
            {
                "model": self.model,
                "classes": classifier.classes,
                "multi_label": classifier.multi_label,
                "window": classifier.window_size / classifier.frontend.config.sample_rate,
                "step": self.tiles.step,
                "columns": COLUMNS,
                "rows": self.tiles.fbank.mel.shape[1],
                "ticks": self.tiles.ticks(),
                "longest_wav": LONGEST_WAV,
                "formats": [f for f in FORMATS if f != "parquet" or find_spec("pyarrow")],
                "folder": self.library.folder is not None,
                "verdicts": self.verdicts.folder.name if self.verdicts_stay else None,
                "upload_bytes": UPLOAD_BYTES,
                "most_recordings": MOST_RECORDINGS,
            }
        )

    async def listing(self, request: Request) -> Response:
        below = request.query_params.get("path", "")
        return JSONResponse(await self.run(self.reading, lambda: self.library.listing(below)))

    # Recordings

    async def upload(self, request: Request) -> Response:
        """The body is the file, `name` in the query what it is called."""
        if self.uploads >= UPLOADS_AT_ONCE:
            raise HTTPException(503, "too many uploads at a time; try again", {"Retry-After": "1"})
        name = request.query_params.get("name", "recording")
        self.uploads += 1
        try:
            path, digest = await self.library.receive(body_of(request, UPLOAD_BYTES), name)
        finally:
            self.uploads -= 1
        try:
            opened = await self.run(self.opening, lambda: self.library.add(path, name, digest))
        except BaseException:
            self.library.discard(path)
            raise
        return JSONResponse(summary(opened), 201)

    async def open(self, request: Request) -> Response:
        """Open a recording of the folder: `path` in the query."""
        below = request.query_params.get("path", "")
        opened = await self.run(self.opening, lambda: self.library.open(below))
        return JSONResponse(summary(opened))

    async def cancel(self, request: Request) -> Response:
        recording = self.library[request.path_params["id"]]
        recording.job.cancelled = True
        return JSONResponse(summary(recording))

    async def close_recording(self, request: Request) -> Response:
        self.library.close(request.path_params["id"])
        return Response(status_code=204)

    async def events(self, request: Request) -> Response:
        """What happens, as server-sent events: the recordings, windows and verdicts of `shown`."""
        if self.streams >= STREAMS:
            raise HTTPException(503, "too many pages are open; close some")
        stream = self._events(request, request.query_params.get("shown"))
        return StreamingResponse(stream, media_type="text/event-stream")

    async def _events(self, request: Request, shown: str | None) -> AsyncIterator[str]:
        self.streams += 1
        try:
            said, pieces, quiet, revision = "", 0, 0.0, -1
            while not await request.is_disconnected():
                recordings = list(self.library.recordings.values())
                state = json.dumps([summary(each) for each in recordings])
                quiet += POLL
                if state != said:
                    said, quiet = state, 0.0
                    yield f"event: recordings\ndata: {state}\n\n"
                recording = self.library.recordings.get(shown)
                if self.verdicts.revision != revision:
                    revision = self.verdicts.revision
                    yield f"event: verdicts\ndata: {json.dumps(self._verdicts(recording))}\n\n"
                for piece in recording.job.pieces[pieces:] if recording else ():
                    yield f"event: windows\ndata: {json.dumps(windows_of(piece))}\n\n"
                    pieces += 1
                if quiet > HEARTBEAT:
                    quiet = 0.0
                    yield ": still here\n\n"
                await asyncio.sleep(POLL)
        finally:
            self.streams -= 1

    # Of one recording

    async def tile(self, request: Request) -> Response:
        recording = self.library[request.path_params["id"]]
        level, number = request.path_params["level"], request.path_params["number"]
        png = await self.run(self.reading, lambda: self.tiles.png(recording, level, number))
        return Response(
            png, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"}
        )

    async def audio(self, request: Request) -> Response:
        """From `start` to `end` seconds as a WAV, in byte ranges."""
        recording = self.library[request.path_params["id"]]
        start, end = span_of(request, recording)
        wav = Wav(recording, start, end)
        headers = {"Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d{0,15})-(\d{0,15})", request.headers.get("range", ""))
        if not asked or not any(asked.groups()):
            headers["Content-Length"] = str(wav.size)
            pieces = self._pieces(wav)
            return StreamingResponse(pieces, media_type="audio/wav", headers=headers)
        first, last = asked.groups()
        begin = int(first) if first else max(0, wav.size - int(last))
        stop = min(int(last) + 1, wav.size) if first and last else wav.size
        if begin >= stop:
            raise HTTPException(416, "beyond the end", {"Content-Range": f"bytes */{wav.size}"})
        stop = min(stop, begin + AUDIO_BYTES)
        content = await self.run(self.reading, lambda: wav.read(begin, stop))
        headers["Content-Range"] = f"bytes {begin}-{stop - 1}/{wav.size}"
        return Response(content, 206, headers, "audio/wav")

    async def _pieces(self, wav: Wav) -> AsyncIterator[bytes]:
        for start in range(0, wav.size, AUDIO_BYTES):
            stop = min(start + AUDIO_BYTES, wav.size)
            yield await self.run(self.reading, lambda start=start, stop=stop: wav.read(start, stop))

    async def attention(self, request: Request) -> Response:
        """How much each patch counts in the window that begins at `start` seconds; mean 1."""
        recording = self.library[request.path_params["id"]]
        start = number_of(request, "start", 0.0)
        classifier, rate = self.worker.classifier, self.tiles.fbank.sample_rate
        seconds = classifier.window_size / rate
        if not 0 <= start < recording.seconds:
            raise HTTPException(422, "there is nothing at that time")

        def read() -> torch.Tensor:
            (waveform,) = recording.waveforms([start], seconds, rate)
            return waveform[: classifier.window_size]

        waveform = await self.run(self.reading, read)
        if self.worker.waiting() >= MOST_WAITING:
            raise HTTPException(503, "too many requests wait; try again", {"Retry-After": "1"})
        call = self.worker.call(lambda: classifier.attention_map(waveform[None])[0].cpu())
        try:
            patches = await asyncio.wrap_future(call)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        values = [[round(v, 3) for v in row] for row in (patches * patches.numel()).tolist()]
        return JSONResponse({"start": start, "end": start + seconds, "values": values})

    async def detections(self, request: Request) -> Response:
        """A table of what reaches `threshold`, in any format of `predict`."""
        recording = self.library[request.path_params["id"]]
        form = request.query_params.get("format", "csv")
        if form not in FORMATS:
            raise HTTPException(422, f"format {form!r:.60} is unknown: {', '.join(FORMATS)}")
        threshold = number_of(request, "threshold", 0.5)
        return await self.run(self.reading, lambda: self._table(recording, form, threshold))

    def _table(self, recording: Recording, form: str, threshold: float) -> Response:
        timeline = recording.job.timeline()
        if timeline is None:
            raise ValueError("nothing was heard yet; wait for the first result")
        choice = choose(timeline.classes, threshold, merge_gap=0.0)
        path = Path(recording.name) if recording.digest else recording.path
        heard = Heard(
            path, recording.seconds, recording.header.sample_rate, choice.detections(timeline)
        )
        table = Table(choice.classes, self.tiles.fbank.band, absolute(path).parent)
        with TemporaryDirectory(dir=self.library.temporary) as folder:
            file = Path(folder) / "table"
            FORMATS[form].write(file, [heard], table)
            content = file.read_bytes()
        name = f"{Path(recording.name).stem}{FORMATS[form].suffix}"
        return Response(content, headers={"Content-Disposition": attachment(name)})

    # Verdicts

    async def judge(self, request: Request) -> Response:
        """Give the segment of a `class` from `start` to `end` a `verdict`; "" takes it back."""
        recording = self.library[request.path_params["id"]]
        label, verdict = (request.query_params.get(name) for name in ("class", "verdict"))
        start, end = (number_of(request, name, math.nan) for name in ("start", "end"))
        if verdict is None:
            raise HTTPException(422, "verdict is missing: yes, no, unsure, or empty")
        if label not in self.worker.classifier.classes:
            raise HTTPException(422, f"the model has no class {label!r:.200}")
        if end - start > LONGEST_WAV:
            raise HTTPException(422, f"longer than {LONGEST_WAV:g} s; raise the threshold")
        column = self.worker.classifier.classes.index(label)
        found = recording.job.segment(column, start, end)
        if found is None:
            raise HTTPException(422, f"no windows go from {start:g} to {end:g} s")
        if verdict and is_full(self.verdicts.folder):
            raise HTTPException(507, "the server's disk is full; the verdict was not kept")
        detection = Detection(recording.place, *found[:2], label, found[2])
        await self.run(self.reading, lambda: self.verdicts.put(detection, verdict, recording.path))
        return JSONResponse(self._verdicts(recording))

    def _verdicts(self, recording: Recording | None) -> dict[str, Any]:
        """How many there are, and [start, end, class, verdict] of those on a recording."""
        revision = self.verdicts.revision  # before what it may be older than
        here = self.verdicts.of(recording.place) if recording else []
        rows = [[each.start, each.end, each.label, each.verdict] for each in here]
        return {"revision": revision, "count": len(self.verdicts), "here": rows}

    async def download_verdicts(self, request: Request) -> Response:
        """The folder with all verdicts and their segments, as a ZIP."""

        def write() -> BinaryIO:
            file = TemporaryFile(dir=self.library.temporary)  # noqa: SIM115 - goes when it is sent
            self.verdicts.write_zip(file)
            file.seek(0)
            return file

        file = await self.run(self.reading, write)
        pieces = iter(lambda: file.read(AUDIO_BYTES), b"")
        headers = {"Content-Disposition": attachment("verdicts.zip")}
        return StreamingResponse(pieces, media_type="application/zip", headers=headers)

    # For programs

    async def predict(self, request: Request) -> Response:
        """The body is a clip up to the model's length; the classes, the likeliest first.

        Clips that come together run through the model in one batch.
        """
        if self.waiting + self.worker.waiting() >= MOST_WAITING:
            raise HTTPException(503, "too many requests wait; try again", {"Retry-After": "1"})
        top_k = number_of(request, "top_k", 5)
        if not 1 <= top_k < 2**31:
            raise HTTPException(422, f"top_k {top_k} is not positive; ask for at least one class")
        path, _ = await self.library.receive(body_of(request, CLIP_BYTES), "clip")
        try:
            waveform = await self.run(self.reading, lambda: self._clip(path))
        except HTTPException as error:
            reason = error.detail.replace(path.name, "the clip")
            raise HTTPException(error.status_code, reason, error.headers) from error
        finally:
            self.library.discard(path)
        row = await asyncio.wrap_future(self.worker.probabilities(waveform))
        best = likeliest(row, self.worker.classifier.classes, int(top_k))
        return JSONResponse({"classes": [{"class": c, "probability": p} for c, p in best]})

    def _clip(self, path: Path) -> torch.Tensor:
        classifier, rate = self.worker.classifier, self.tiles.fbank.sample_rate
        waveform = load_audio(path, rate, max_seconds=classifier.longest_clip / rate)
        if len(waveform) < self.tiles.fbank.window_size:
            raise ValueError("the clip is too short; a model needs at least 25 ms")
        return waveform

    def routes(self) -> list[Route | Mount]:
        one = "/api/recordings/{id}"
        return [
            Route("/", self.page),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/api/about", self.about),
            Route("/api/folder", self.listing),
            Route("/api/events", self.events),
            Route("/api/predict", self.predict, methods=["POST"]),
            Route("/api/recordings", self.upload, methods=["POST"]),
            Route("/api/recordings/open", self.open, methods=["POST"]),
            Route(one, self.close_recording, methods=["DELETE"]),
            Route(f"{one}/cancel", self.cancel, methods=["POST"]),
            Route(f"{one}/tiles/{{level:int}}/{{number:int}}.png", self.tile),
            Route(f"{one}/audio.wav", self.audio),
            Route(f"{one}/attention", self.attention),
            Route(f"{one}/detections", self.detections),
            Route(f"{one}/verdict", self.judge, methods=["POST"]),
            Route("/api/verdicts.zip", self.download_verdicts),
        ]


def create_app(
    worker: Worker,
    model: str,
    folder: Path | None = None,
    hosts: set[str] | None = None,
    token: str | None = None,
    verdicts: Path | None = None,
) -> Starlette:
    """The application; uploads lie in a temporary folder that goes when it shuts down.

    Args:
        worker: with the model; it is closed with the application.
        model: what the page calls the model.
        folder: of recordings that may be browsed.
        hosts, token: as in `Guard`.
        verdicts: folder for them, as `Verdicts` takes it; None: they go with the uploads.
    """
    temporary = TemporaryDirectory(prefix="ast-audio-serve-")
    server = Server(worker, model, folder, Path(temporary.name), verdicts)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            server.close()
            temporary.cleanup()

    return Starlette(
        routes=server.routes(),
        middleware=[Middleware(Guard, hosts=hosts, token=token)],
        exception_handlers={HTTPException: _refused},
        lifespan=lifespan,
    )


async def _refused(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)

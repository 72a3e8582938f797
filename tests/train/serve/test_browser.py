"""The page in Chromium: what a person does on it, and nothing in the console."""

import csv
import re
import socket
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import uvicorn

from tests.train.serve.conftest import wait_until
from train.inference.detections import FORMATS
from train.inference.listening import review
from train.serve import server as serving
from train.serve.app import create_app
from train.serve.jobs import Worker

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
expect = sync_api.expect
expect.set_options(timeout=15_000)  # machines that test are busy

pytestmark = pytest.mark.browser


class Running:
    """An application on a port of this machine."""

    def __init__(self, app):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        config = uvicorn.Config(
            app, http=serving._Impatient, ws="none", log_config=None, timeout_graceful_shutdown=1
        )
        self.server = uvicorn.Server(config)
        run = {"sockets": [self.listener]}
        self.thread = threading.Thread(target=self.server.run, kwargs=run)
        self.thread.start()
        wait_until(lambda: self.server.started)
        self.state = app.routes[0].endpoint.__self__

    def stop(self):
        self.server.should_exit = True
        self.thread.join()
        self.listener.close()


@pytest.fixture
def heard(tmp_path):
    """The folder that the server keeps verdicts in."""
    return tmp_path / "heard"


@pytest.fixture
def running(classifier, sounds, heard):
    running = Running(create_app(Worker(classifier, "fp32"), "tiny", sounds, verdicts=heard))
    yield running
    running.stop()


@pytest.fixture
def faults():
    """What went wrong in the page; a test that expects something takes it away."""
    return []


@pytest.fixture
def page(browser, running, faults):
    """The page, opened; afterwards nothing was wrong and no other host was asked."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(10_000)

    def said(message):
        if "willReadFrequently" not in message.text:  # of the tests' own look at the canvas
            faults.append(f"{message.type}: {message.text}")

    page.on("console", said)
    page.on("pageerror", lambda error: faults.append(str(error)))

    def asked(request):
        if not request.url.startswith((running.address, "blob:", "data:")):
            faults.append(f"asked for {request.url}")

    page.on("request", asked)
    page.goto(running.address)
    expect(page.locator("#model")).not_to_be_empty()  # its script runs: nothing is done too early
    yield page
    context.close()
    assert faults == []


@pytest.fixture
def analysed(page, sounds):
    """`long.flac` uploaded, analysed and shown."""
    page.set_input_files("#files", sounds / "long.flac")
    expect(page.locator("#facts")).to_contain_text("analysed", timeout=10_000)
    expect(page.locator("#count")).not_to_be_empty()
    return page


def colours(page, canvas="spectrogram"):
    """How many different colours a canvas shows."""
    return page.evaluate(
        """id => { const c = document.getElementById(id);
        const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);
        return new Set(new Uint32Array(data.buffer)).size; }""",
        canvas,
    )


def test_a_file_that_is_chosen_is_heard_and_seen(analysed):
    expect(analysed.locator("#name")).to_have_text("long.flac")
    expect(analysed.locator("#recordings li.current")).to_contain_text("%")
    analysed.wait_for_timeout(300)
    assert colours(analysed) > 50
    assert colours(analysed, "timeline") > 3


def test_a_file_that_is_dropped_is_uploaded(page, sounds):
    content = (sounds / "short.wav").read_bytes().hex()
    page.evaluate(
        """hex => { const bytes = Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
        const data = new DataTransfer(); data.items.add(new File([bytes], 'dropped.wav'));
        dispatchEvent(new DragEvent('drop', { dataTransfer: data, cancelable: true })); }""",
        content,
    )
    expect(page.locator("#name")).to_have_text("dropped.wav")
    expect(page.locator("#facts")).to_contain_text("analysed")


def test_the_first_result_of_a_clip_comes_within_a_second(page, sounds):
    soundfile.write(sounds / "ten.wav", np.random.default_rng(0).uniform(-1, 1, 160_000), 16_000)
    start = time.monotonic()
    page.set_input_files("#files", sounds / "ten.wav")
    expect(page.locator("#count")).not_to_be_empty()
    assert time.monotonic() - start < 5  # machines that test are busy; measured alone: below 1


def test_the_folder_is_browsed_by_keyboard(page):
    page.locator("#entries button", has_text="below/").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#below")).to_have_text("below")
    page.locator("#entries button", has_text="deep.wav").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#name")).to_have_text("deep.wav")


def test_the_threshold_changes_the_segments(analysed):
    analysed.locator("#threshold").fill("0.02")
    many = analysed.locator("#segments tbody tr").count()
    analysed.locator("#threshold").fill("1")
    expect(analysed.locator("#count")).to_contain_text("No class reaches 1.00")
    assert many > analysed.locator("#segments tbody tr").count() == 0


def test_a_click_seeks_and_keys_move_and_zoom(analysed):
    box = analysed.locator("#spectrogram").bounding_box()
    middle = box["x"] + 52 + (box["width"] - 52) / 2
    analysed.mouse.click(middle, box["y"] + 50)
    assert cursor(analysed) == pytest.approx(2, abs=0.05)
    analysed.locator("#view").focus()
    analysed.keyboard.press("ArrowRight")
    assert cursor(analysed) == pytest.approx(2.08, abs=0.05)
    before = colours_at_the_left(analysed)
    analysed.keyboard.press("+")
    analysed.wait_for_timeout(300)
    assert colours_at_the_left(analysed) != before
    analysed.keyboard.press("0")
    analysed.wait_for_timeout(100)
    assert colours_at_the_left(analysed) == before
    analysed.keyboard.press("End")
    assert cursor(analysed) == pytest.approx(4, abs=0.01)
    analysed.keyboard.press("Home")
    assert cursor(analysed) == 0


def cursor(page):
    return float(page.locator("#view").get_attribute("aria-valuenow"))


def colours_at_the_left(page):
    return page.evaluate(
        """() => { const c = document.getElementById('spectrogram');
        return [...c.getContext('2d').getImageData(60, 10, 200, 1).data].join(); }"""
    )


def test_the_cursor_moves_with_the_sound(analysed):
    analysed.locator("#play").click()
    expect(analysed.locator("#play")).to_have_text("Pause")
    expect(analysed.locator("#time")).not_to_have_text(re.compile(r"0:00\.[0-3]"))
    analysed.locator("#view").focus()
    analysed.keyboard.press(" ")
    expect(analysed.locator("#play")).to_have_text("Play")


def test_a_segment_is_heard_from_its_start_to_its_end(analysed):
    analysed.locator("#threshold").fill("0.02")
    row = analysed.locator("#segments tbody tr").first
    with analysed.expect_request(lambda request: "audio.wav" in request.url) as asked:
        row.locator("button").first.focus()
        analysed.keyboard.press("Enter")
    start, end = (cell.split(":") for cell in row.locator("td").all_text_contents()[:2])
    query = dict(pair.split("=") for pair in asked.value.url.partition("?")[2].split("&"))
    for (minutes, seconds), name in ((start, "start"), (end, "end")):
        assert float(query[name]) == pytest.approx(60 * int(minutes) + float(seconds), abs=0.051)
    expect(analysed.locator("#play")).to_have_text("Pause")
    expect(analysed.locator("#play")).to_have_text("Play", timeout=8_000)  # it ends by itself
    assert cursor(analysed) == pytest.approx(float(query["end"]), abs=0.2)


def test_attention_is_drawn_over_the_window_under_the_cursor(analysed):
    analysed.wait_for_timeout(300)
    before = colours_at_the_left(analysed)
    with analysed.expect_response(lambda answer: "attention" in answer.url) as answer:
        analysed.locator("#attention").check()
    assert answer.value.ok
    analysed.wait_for_timeout(200)
    assert colours_at_the_left(analysed) != before
    analysed.locator("#attention").uncheck()
    analysed.wait_for_timeout(200)
    assert colours_at_the_left(analysed) == before


@pytest.mark.parametrize("form", ["raven", "csv"])
def test_a_table_is_downloaded(analysed, form):
    analysed.locator("#threshold").fill("0.3")
    analysed.locator("#format").select_option(form)
    with analysed.expect_download() as download:
        analysed.locator("#download").click()
    assert download.value.suggested_filename == f"long{FORMATS[form].suffix}"
    rows = Path(download.value.path()).read_text().splitlines()
    assert len(rows) == 1 + analysed.locator("#segments tbody tr").count()


def verdicts_in(table):
    with table.open(newline="", encoding="utf-8") as file:
        return [row["verdict"] for row in csv.DictReader(file)]


def pressed(row):
    return row.locator("button[aria-pressed=true]")


def test_verdicts_are_given_by_mouse_and_keyboard_and_stay(analysed, heard, tmp_path):
    page, rows = analysed, analysed.locator("#segments tbody tr")
    page.locator("#threshold").fill("0.3")
    expect(rows.nth(1)).to_be_visible()
    rows.nth(0).get_by_role("button", name="no", exact=True).click()
    expect(pressed(rows.nth(0))).to_have_text("no")
    expect(page.locator("#judged")).to_contain_text("1 verdict on this recording")
    expect(page.locator("#play")).to_have_text("Play")  # it is not heard by that
    rows.nth(0).locator("button").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("y")
    expect(pressed(rows.nth(1))).to_have_text("yes")
    page.keyboard.press("Tab")  # the focus stays where it was
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(pressed(rows.nth(1))).to_have_text("no")
    expect(page.locator("#judged")).to_contain_text("2 verdicts on this recording; all are kept in")
    page.keyboard.press("u")
    expect(pressed(rows.nth(1))).to_have_text("unsure")
    page.reload()
    page.locator("#recordings").get_by_text("long.flac").click()
    page.locator("#threshold").fill("0.3")
    expect(pressed(rows.nth(0))).to_have_text("no")
    expect(pressed(rows.nth(1))).to_have_text("unsure")
    assert verdicts_in(heard / "segments.csv") == ["no", "unsure"]
    assert sum(each.wrong for each in review(heard).classes) == 1
    with page.expect_download() as download:
        page.locator("#take").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        archive.extractall(tmp_path)
    assert verdicts_in(tmp_path / "verdicts" / "segments.csv") == ["no", "unsure"]


def test_a_verdict_is_taken_back_and_other_tabs_see_it(analysed, heard, browser):
    rows = analysed.locator("#segments tbody tr")
    analysed.locator("#threshold").fill("0.3")
    other = browser.new_page()
    other.goto(analysed.url)
    other.locator("#recordings").get_by_text("long.flac").click()
    other.locator("#threshold").fill("0.3")
    there = other.locator("#segments tbody tr")
    rows.nth(0).get_by_role("button", name="yes", exact=True).click()
    expect(pressed(there.nth(0))).to_have_text("yes")
    there.nth(0).locator("button").first.focus()
    other.keyboard.press("n")
    expect(pressed(rows.nth(0))).to_have_text("no")
    rows.nth(0).get_by_role("button", name="no", exact=True).click()
    expect(pressed(there)).to_have_count(0)
    other.keyboard.press("y")
    expect(pressed(rows.nth(0))).to_have_text("yes")
    other.keyboard.press("Delete")
    expect(pressed(rows)).to_have_count(0)
    expect(analysed.locator("#take")).to_be_hidden()
    assert verdicts_in(heard / "segments.csv") == []
    other.close()


def test_a_verdict_that_cannot_be_kept_is_said_and_not_shown(analysed, heard, faults):
    heard.write_text("in the way")
    analysed.locator("#threshold").fill("0.3")
    row = analysed.locator("#segments tbody tr").first
    with analysed.expect_console_message(lambda said: "422" in said.text):
        row.get_by_role("button", name="yes", exact=True).click()
    expect(analysed.locator("#alert")).to_contain_text("The verdict was not kept")
    expect(pressed(row)).to_have_count(0)
    assert [fault for fault in faults if "422" not in fault] == []
    faults.clear()  # Chromium reports each answer of 4xx


def test_the_microphone_is_recorded(page):
    page.locator("#record").click()
    expect(page.locator("#record")).to_have_text("Stop")
    expect(page.locator("#hint")).to_contain_text("0:01")
    page.locator("#record").click()
    expect(page.locator("#name")).to_have_text(re.compile(r"recording_\d{8}_\d{6}\.wav"))
    expect(page.locator("#facts")).to_contain_text("analysed")
    expect(page.locator("#record")).to_have_text("Record")


def test_a_broken_file_says_why_and_the_others_go_on(page, sounds, faults):
    with page.expect_console_message(lambda said: "422" in said.text):  # may come after the text
        page.set_input_files("#files", [sounds / "broken.wav", sounds / "short.wav"])
    expect(page.locator("#recordings .failed")).to_contain_text("broken.wav")
    expect(page.locator("#name")).to_have_text("short.wav")
    assert [fault for fault in faults if "422" not in fault] == []
    faults.clear()  # Chromium reports each answer of 4xx


def test_a_long_recording_can_be_cancelled_and_shows_what_was_heard(page, sounds, running):
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(sounds / "hours.flac", "w", 8_000, 1) as file:
        for _ in range(120):
            file.write(rng.uniform(-0.1, 0.1, 60 * 8_000).astype("float32"))
    page.locator("#entries button", has_text="below/").click()
    page.locator("#entries button", has_text="↑ up").click()
    page.locator("#entries button", has_text="hours.flac").click()
    expect(page.locator("#facts")).to_contain_text("analysed up to")
    expect(page.locator("#count")).not_to_be_empty()
    page.locator("#recordings li", has_text="hours").get_by_text("Cancel").click()
    expect(page.locator("#facts")).to_contain_text("cancelled")
    page.wait_for_timeout(300)
    assert colours(page) > 50


def test_the_page_says_when_the_server_is_gone(analysed, running, faults):
    running.stop()
    expect(analysed.locator("#alert")).to_contain_text("does not answer")
    analysed.goto("about:blank")  # it would try again
    assert [fault for fault in faults if "ERR_" not in fault] == []
    faults.clear()  # Chromium reports each failed try


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(analysed, width):
    analysed.set_viewport_size({"width": width, "height": 800})
    analysed.wait_for_timeout(100)
    assert analysed.evaluate("document.documentElement.scrollWidth") <= width

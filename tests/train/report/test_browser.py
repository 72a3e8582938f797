"""The report in Chromium: it fits a phone, its sounds play, and it asks nobody for anything."""

import pytest

pytestmark = pytest.mark.browser


@pytest.fixture
def report(run_command, run_folder, corpus_folder, tmp_path):
    out = tmp_path / "report.html"
    words = ("report", run_folder, "--out", out, "--data", corpus_folder, "--mistakes", "2")
    code, _, err = run_command(*words, "--device", "cpu")
    assert code == 0, err
    return out


@pytest.fixture
def open_report(browser, report):
    """Opens the report in a window of some size; afterwards nothing was wrong."""
    faults, contexts = [], []

    def asked(request):
        if not request.url.startswith((report.as_uri(), "data:")):
            faults.append(f"asked for {request.url:.100}")

    def open_report(width, height, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", asked)
        page.goto(report.as_uri())
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert not faults


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_it_fits_the_window_and_follows_the_colours_of_the_reader(
    open_report, width, height, scheme
):
    page = open_report(width, height, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    levels = [int(word) for word in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    assert (max(levels) < 80) if scheme == "dark" else (min(levels) > 200)
    pictures = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
    assert page.evaluate(pictures)


def test_a_sound_plays_to_its_end(open_report):
    page = open_report(1280, 900)
    sound = page.locator("audio").first
    play = "sound => new Promise(end => { sound.onended = () => end(true); sound.play(); })"
    assert sound.evaluate(play)
    assert 0.4 < sound.evaluate("sound => sound.duration") < 1

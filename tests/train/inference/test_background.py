"""Work in the background: in order, bounded, errors where they belong, nothing left behind."""

import threading
import time
from contextlib import closing

import pytest
import torch

from data import load_audio
from train.inference import embed, predict
from train.inference.background import in_background, one_ahead


def decoding_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_results_come_in_order_however_long_each_takes():
    def work(number):
        time.sleep(0.005 * (number % 3))
        return number

    assert [future.result() for future in in_background(work, range(20), 5)] == [*range(20)]


@pytest.mark.parametrize("ahead", [1, 4, 100])
def test_no_more_is_begun_than_asked_for(ahead):
    begun = []
    for taken, future in enumerate(in_background(begun.append, range(30), ahead)):
        future.result()
        assert len(begun) <= taken + ahead
    assert len(begun) == 30


def test_an_error_comes_in_its_turn_and_the_rest_after_it():
    def work(number):
        if number == 2:
            raise ValueError("no")
        return number

    futures = list(in_background(work, range(4), 4))
    assert [futures[number].result() for number in (0, 1, 3)] == [0, 1, 3]
    with pytest.raises(ValueError, match="no"):
        futures[2].result()


def test_closed_early_it_begins_nothing_more_and_its_threads_end():
    begun = []

    def work(number):
        begun.append(number)
        time.sleep(0.01)

    with closing(in_background(work, range(1000), 500)) as futures:
        next(futures).result()
    assert len(begun) < 250
    assert not decoding_threads()


def test_blocks_pass_through_and_one_is_made_ahead():
    made = []

    def blocks():
        for number in range(5):
            made.append(number)
            yield number

    taken = []
    for block in one_ahead(blocks()):
        taken.append(block)
        time.sleep(0.01)
        assert len(made) <= len(taken) + 1
    assert taken == [0, 1, 2, 3, 4]


def test_an_error_among_blocks_comes_after_the_blocks_before_it():
    def blocks():
        yield 1
        raise ValueError("cut off")

    taken = one_ahead(blocks())
    assert next(taken) == 1
    with pytest.raises(ValueError, match="cut off"):
        next(taken)


@pytest.fixture
def decoded(monkeypatch):
    """The files that were decoded, in the order in which that began."""
    begun = []

    def load(path, sample_rate):
        begun.append(path)
        return load_audio(path, sample_rate)

    monkeypatch.setattr("train.inference.recordings.load_audio", load)
    return begun


@pytest.fixture
def many(sounds, tmp_path):
    """Forty short recordings."""
    content = (sounds / "a.wav").read_bytes()
    for number in range(40):
        (tmp_path / f"{number:02}.wav").write_bytes(content)
    return tmp_path


@pytest.mark.parametrize("command", [predict, embed])
def test_who_stops_early_leaves_the_other_files_alone(command, model_folder, many, decoded):
    found = command(model_folder, many, batch_size=4, device="cpu")
    assert next(found).path == many / "00.wav"
    found.close()
    assert len(decoded) <= 4 + 2 * 4
    assert not decoding_threads()


@pytest.mark.parametrize("command", [predict, embed])
def test_an_interruption_ends_it(command, model_folder, many, decoded, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ast_model.AudioClassifier.forward", interrupted)
    monkeypatch.setattr("ast_model.AudioClassifier.embed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(command(model_folder, many, batch_size=4, device="cpu"))
    assert len(decoded) <= 4 + 2 * 4
    assert not decoding_threads()


def test_files_are_decoded_while_the_model_runs(model_folder, many, decoded, monkeypatch):
    """The second batch is decoded before the first has left the model."""
    from ast_model import AudioClassifier

    whole, waited = AudioClassifier.forward, []

    def slow(*arguments):
        end = time.monotonic() + 10
        while len(decoded) < 8 and time.monotonic() < end:
            time.sleep(0.001)
        waited.append(len(decoded))
        return whole(*arguments)

    monkeypatch.setattr(AudioClassifier, "forward", slow)
    next(predict(model_folder, many, batch_size=4, device="cpu"))
    assert waited[0] >= 8


def test_the_model_runs_in_the_thread_that_asks(model_folder, sounds, monkeypatch):
    """Autocast and gradients are settings of a thread."""
    from ast_model import AudioClassifier

    whole, threads = AudioClassifier.forward, set()

    def noting(*arguments):
        threads.add(threading.current_thread())
        assert not torch.is_grad_enabled()
        return whole(*arguments)

    monkeypatch.setattr(AudioClassifier, "forward", noting)
    list(predict(model_folder, sounds, device="cpu"))
    assert threads == {threading.main_thread()}

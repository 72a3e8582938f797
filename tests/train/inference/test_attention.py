"""`ast-audio attention`: the picture is of the window that was asked for."""

import pytest
import torch

from data import load_audio
from train.inference.attention import excerpt


@pytest.mark.parametrize(("start", "size"), [(0, 5), (3, 7), (10, 10), (18, 9), (0, 99)])
def test_an_excerpt_is_a_slice_of_the_joined_blocks(start, size):
    samples = torch.arange(20.0)
    assert torch.equal(excerpt(samples.split(6), start, size), samples[start : start + size])


@pytest.mark.parametrize("kind", ["rollout", "last"])
def test_the_map_of_the_window_is_drawn(
    run_command, model_folder, classifier, sounds, tmp_path, monkeypatch, kind
):
    drawn = []
    monkeypatch.setattr(
        "train.inference.attention.attention_figure", lambda *parts: drawn.append(parts)
    )
    monkeypatch.setattr("train.inference.attention.save_figure", lambda *parts: None)
    words = ("--out", tmp_path / "map.png", "--at", "2", "--kind", kind, "--device", "cpu")
    code, out, err = run_command("attention", model_folder, sounds / "long.wav", *words)
    assert code == 0, err
    ((_, waveform, relevance, start, title),) = drawn
    expected = load_audio(sounds / "long.wav")[32_000 : 32_000 + classifier.window_size]
    assert torch.equal(waveform, expected)
    assert torch.allclose(relevance, classifier.attention_map(expected[None], kind=kind)[0])
    name = classifier(expected, top_k=1)[0][0]
    assert title.startswith(f"long.wav: {name} ")
    assert (start, out.startswith("wrote ")) == (2.0, True)


def test_the_picture_is_a_png(run_command, model_folder, sounds, tmp_path):
    words = ("--out", tmp_path / "map.png", "--device", "cpu")
    assert run_command("attention", model_folder, sounds / "short.wav", *words)[0] == 0
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_bad_options_are_one_line(run_command, model_folder, sounds, tmp_path):
    def refusal(file, *words):
        code, _, err = run_command("attention", model_folder, file, *words)
        assert (code, err.count("\n")) == (2, 1)
        return err

    png = ("--out", tmp_path / "map.png")
    assert "give a name that ends in .png" in refusal(sounds / "a.wav", "--out", "map.jpg")
    assert "is a folder; name one audio file" in refusal(sounds, *png)
    assert "--at 5 is not within" in refusal(sounds / "long.wav", *png, "--at", "5")
    assert "lasts 10.0 ms" in refusal(sounds / "long.wav", *png, "--at", "4.99")

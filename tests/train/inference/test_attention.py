"""`attention` and its command: the map is of the window that was asked for."""

import pytest
import torch

from data import load_audio
from train.inference import attention
from train.inference.attention import excerpt


@pytest.mark.parametrize(("start", "size"), [(0, 5), (3, 7), (10, 10), (18, 9), (0, 99)])
def test_an_excerpt_is_a_slice_of_the_joined_blocks(start, size):
    samples = torch.arange(20.0)
    assert torch.equal(excerpt(samples.split(6), start, size), samples[start : start + size])


@pytest.mark.parametrize("kind", ["rollout", "last"])
def test_the_map_is_that_of_the_classifier_for_the_window(model_folder, classifier, sounds, kind):
    found = attention(model_folder, sounds / "long.wav", at=2, kind=kind, device="cpu")
    window = load_audio(sounds / "long.wav")[32_000 : 32_000 + classifier.window_size]
    assert torch.equal(found.waveform, window)
    expected = classifier.attention_map(window[None], kind=kind)[0]
    assert torch.allclose(found.patches, expected, atol=1e-6)
    assert (found.label, found.probability) == classifier.classify(window, top_k=1)[0]
    assert (found.path, found.start) == (sounds / "long.wav", 2)


@pytest.mark.precision
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_lower_precision_is_close(run_command, model_folder, sounds, tmp_path, precision):
    exact, rough = (
        attention(model_folder, sounds / "a.wav", precision=name, device="cpu")
        for name in ("fp32", precision)
    )
    assert not torch.equal(exact.patches, rough.patches)
    assert torch.allclose(exact.patches, rough.patches, rtol=0.1)
    words = ("attention", model_folder, sounds / "a.wav", "--out", tmp_path / "map.png")
    out = run_command(*words, "--precision", precision, "--device", "cpu")[1]
    assert f"; CPU, {precision}\n" in out
    assert out.endswith(f"{rough.label} {rough.probability:.1%}\n")


def test_the_command_draws_a_png_and_names_the_class(run_command, model_folder, sounds, tmp_path):
    words = ("--out", tmp_path / "map.png", "--device", "cpu")
    code, out, err = run_command("attention", model_folder, sounds / "short.wav", *words)
    assert code == 0, err
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    found = attention(model_folder, sounds / "short.wav", device="cpu")
    assert out.startswith(f"model {model_folder}: ")
    assert out.endswith(f"\nwrote {tmp_path / 'map.png'}: {found.label} {found.probability:.1%}\n")


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

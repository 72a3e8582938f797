"""Parity with transformers' AST on random weights, there and back."""

import json

import pytest
import torch
from safetensors.torch import load_file

import weights
from ast_model import FrontendConfig

transformers = pytest.importorskip("transformers")

SIZES = {
    "tiny": {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768},
    "base": {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
}


def theirs_of(kind, size, frames, seed=0, num_labels=5):
    torch.manual_seed(seed)
    config = transformers.ASTConfig(**SIZES[size], max_length=frames, num_labels=num_labels)
    model = kind(config).eval()
    with torch.no_grad():  # biases and norms too, which start out all alike
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


@pytest.fixture(params=["tiny", "base"])
def size(request):
    return request.param


@pytest.mark.parametrize(
    ("size", "frames"),
    [
        *[("tiny", frames) for frames in (128, 512, 1024)],
        ("base", 128),
        *[pytest.param("base", frames, marks=pytest.mark.slow) for frames in (512, 1024)],
    ],
    indirect=["size"],
)
def test_classifier_and_backbone_agree(tmp_path, size, frames, caplog, agree):
    theirs = theirs_of(transformers.ASTForAudioClassification, size, frames)
    theirs.save_pretrained(tmp_path)
    ours = weights.load(tmp_path).model
    assert ours.config.layer_norm_eps == ours.config.head_layer_norm_eps == 1e-12
    fbank = torch.randn(1, frames, 128)
    with torch.no_grad():
        hidden = theirs.audio_spectrogram_transformer(fbank)
        agree("logits", ours(fbank), theirs(fbank).logits, 1e-5)
        agree("tokens", ours.forward_features(fbank), hidden.last_hidden_state, 1e-5)
        agree("pooled", ours.embed(fbank), hidden.pooler_output, 1e-5)


def test_a_backbone_saved_alone_loads_with_a_new_head(tmp_path, caplog, agree):
    theirs = theirs_of(transformers.ASTModel, "tiny", 128)
    theirs.save_pretrained(tmp_path)
    ours = weights.load(tmp_path, num_classes=7).model
    assert "has no head" in caplog.text
    fbank = torch.randn(2, 128, 128)
    with torch.no_grad():
        hidden = theirs(fbank)
        agree("tokens", ours.forward_features(fbank), hidden.last_hidden_state, 1e-5)
        agree("pooled", ours.embed(fbank), hidden.pooler_output, 1e-5)
        assert ours(fbank).shape == (2, 7)


def test_from_waveform_to_logits_they_agree(tmp_path, size, recordings, agree):
    """Their feature extractor and model on one side, our front end and model on the other."""
    theirs = theirs_of(transformers.ASTForAudioClassification, size, 512)
    theirs.save_pretrained(tmp_path)
    extractor = transformers.ASTFeatureExtractor(max_length=512)
    extractor.save_pretrained(tmp_path)
    ours = weights.load(tmp_path)
    import data

    for path in sorted((recordings / "esc10" / "audio").iterdir())[:2]:
        waveform = data.load_audio(path)
        features = extractor(waveform.numpy(), sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            expected = theirs(**features).logits
            agree("logits from waveform", ours(waveform[None]), expected, 1e-4)


def test_gradients_of_one_step_agree(tmp_path, size, agree):
    theirs = theirs_of(transformers.ASTForAudioClassification, size, 128).train()
    theirs.save_pretrained(tmp_path / "before")
    ours = weights.load(tmp_path / "before")
    fbank, target = torch.randn(2, 128, 128), torch.tensor([1, 3])
    for model, logits in (
        (theirs, lambda: theirs(fbank).logits),
        (ours.model, lambda: ours.model.train()(fbank)),
    ):
        torch.nn.functional.cross_entropy(logits(), target).backward()
        # the gradients in the place of the parameters, so that the folder's key names pair them
        for parameter in model.parameters():
            parameter.data = parameter.grad
    theirs.save_pretrained(tmp_path / "theirs")
    weights.save(tmp_path / "ours", ours)
    expected = load_file(tmp_path / "theirs" / "model.safetensors")
    gradients = load_file(tmp_path / "ours" / "model.safetensors")
    assert gradients.keys() == expected.keys()
    flat = [
        torch.cat([side[name].flatten() for name in expected]) for side in (gradients, expected)
    ]
    agree("gradients", *flat, 1e-4)
    for name in expected:  # a small one may not hide behind a large one
        assert torch.allclose(gradients[name], expected[name], rtol=1e-3, atol=1e-6), name


def test_what_we_save_of_theirs_is_theirs_bit_for_bit(tmp_path, size):
    theirs_of(transformers.ASTForAudioClassification, size, 128).save_pretrained(tmp_path / "in")
    ours = weights.load(tmp_path / "in")
    weights.save(tmp_path / "out", ours)
    before, after = (load_file(tmp_path / way / "model.safetensors") for way in ("in", "out"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_pytorch_model_bin_is_read_where_there_is_no_safetensors_file(tmp_path, agree):
    theirs = theirs_of(transformers.ASTForAudioClassification, "tiny", 128)
    theirs.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    torch.save(load_file(file), tmp_path / "pytorch_model.bin")
    file.unlink()
    fbank = torch.randn(1, 128, 128)
    with torch.no_grad():
        agree("logits", weights.load(tmp_path).model(fbank), theirs(fbank).logits, 1e-5)


def test_half_precision_weights_become_float32(tmp_path, agree):
    theirs = theirs_of(transformers.ASTForAudioClassification, "tiny", 128).half()
    theirs.save_pretrained(tmp_path)
    ours = weights.load(tmp_path).model
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
    fbank = torch.randn(1, 128, 128)
    with torch.no_grad():
        agree("logits", ours(fbank), theirs.float()(fbank).logits, 1e-5)


def test_an_extractor_that_does_not_normalise_is_followed(tmp_path):
    theirs_of(transformers.ASTForAudioClassification, "tiny", 128).save_pretrained(tmp_path)
    extractor = transformers.ASTFeatureExtractor(max_length=128, do_normalize=False)
    extractor.save_pretrained(tmp_path)
    waveform = torch.randn(1, 16_000) / 10
    expected = extractor(waveform[0].numpy(), sampling_rate=16_000, return_tensors="pt")
    ours = weights.load(tmp_path).frontend(waveform)
    assert torch.allclose(ours, expected.input_values, atol=1e-3)


def test_an_extractor_of_another_length_follows_the_model_and_is_said(tmp_path, caplog):
    theirs_of(transformers.ASTForAudioClassification, "tiny", 128).save_pretrained(tmp_path)
    transformers.ASTFeatureExtractor().save_pretrained(tmp_path)  # 1,024 frames
    assert weights.load(tmp_path).frontend.config.num_frames == 128
    assert "has num_frames 1024, the model takes 128" in caplog.text


def test_without_an_extractor_audiosets_is_assumed_and_said(tmp_path, caplog):
    theirs_of(transformers.ASTForAudioClassification, "tiny", 128).save_pretrained(tmp_path)
    frontend = weights.load(tmp_path).frontend.config
    assert frontend == FrontendConfig(num_frames=128, window="hanning")
    assert "AudioSet's mean and std are assumed" in caplog.text


def test_527_classes_are_audiosets_so_independent(tmp_path):
    model = theirs_of(transformers.ASTForAudioClassification, "tiny", 128, num_labels=527)
    model.save_pretrained(tmp_path)
    assert weights.load(tmp_path).multi_label


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "vit"}, "model_type 'vit'"),
        ({"hidden_act": "gelu_new"}, "hidden_act 'gelu_new'"),
        ({"qkv_bias": False}, "qkv_bias False"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers 1000000000 is not an integer from 1"),
        ({"num_hidden_layers": 250}, "depth of 250 does not fit"),
        ({"num_hidden_layers": 11}, r"unknown .*encoder.layer.11"),
        ({"max_length": 1024}, r"position_embeddings has shape \(1, 146, 192\)"),
        ({"hidden_size": "192"}, "config.json: hidden_size is '192', expected a whole number"),
        ({"hidden_size": 0}, "config.json: hidden_size is 0, expected a whole number at least 1"),
    ],
)
def test_a_configuration_of_another_model_is_refused_in_one_line(tmp_path, changes, message):
    theirs_of(transformers.ASTForAudioClassification, "tiny", 128).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ValueError, match=message) as error:
        weights.load(tmp_path)
    assert "\n" not in str(error.value)


def test_keys_that_config_json_leaves_out_mean_what_they_mean_to_transformers(tmp_path, agree):
    config = transformers.ASTConfig(num_hidden_layers=1)
    theirs = transformers.ASTForAudioClassification(config).eval()
    theirs.save_pretrained(tmp_path)
    sparse = {"model_type": "audio-spectrogram-transformer", "num_hidden_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps(sparse))
    ours = weights.load(tmp_path)
    assert ours.classes == ("LABEL_0", "LABEL_1")
    fbank = torch.randn(1, 1024, 128)
    with torch.no_grad():
        agree("logits", ours.model(fbank), theirs(fbank).logits, 1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_bfloat16_is_no_less_exact_than_theirs(tmp_path, attention):
    """Against their weights in bfloat16, both ways of attention; the truth is their float32."""
    theirs = theirs_of(transformers.ASTForAudioClassification, "tiny", 512, num_labels=50)
    with torch.no_grad():  # attention that is far from even
        for name, parameter in theirs.named_parameters():
            parameter.mul_(8 if "query.weight" in name or "key.weight" in name else 1)
    theirs.save_pretrained(tmp_path)
    ours = weights.load(tmp_path).model
    fbank = torch.randn(2, 512, 128) / 2
    with torch.inference_mode():
        truth = theirs(fbank).logits
        with torch.autocast("cpu", torch.bfloat16):
            error = (ours(fbank).float() - truth).norm() / truth.norm()
        theirs = theirs.bfloat16()
        theirs.set_attn_implementation(attention)
        their_error = (theirs(fbank.bfloat16()).logits.float() - truth).norm() / truth.norm()
    print(f"parity: bfloat16 {error:.1e}, theirs ({attention}) {their_error:.1e}")
    assert 0 < error < their_error

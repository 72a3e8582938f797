"""Waveform in, named classes out."""

import pytest
import torch

from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from ast_model.baseline import BaselineConfig

CLASSES = ("dog", "rain", "sea")


def parts(num_classes=3, num_frames=64, frontend_frames=64):
    config = ASTConfig(num_classes=num_classes, num_frames=num_frames, width=24, heads=3, depth=1)
    return AST(config).eval(), Frontend(FrontendConfig(num_frames=frontend_frames))


def test_classes_come_likeliest_first():
    classifier = AudioClassifier(*parts(), CLASSES)
    waveform = torch.randn(10_000)
    best = classifier.classify(waveform, top_k=2)
    probabilities = classifier.probabilities(waveform[None])[0]
    order = probabilities.argsort(descending=True)[:2].tolist()
    assert best == [(CLASSES[i], pytest.approx(probabilities[i].item())) for i in order]
    assert len(classifier.classify(waveform)) == 3  # top_k=5 of three classes


def test_probabilities_sum_to_one_only_for_single_labels():
    model, frontend = parts()
    waveforms = torch.randn(2, 16_000)
    single = AudioClassifier(model, frontend, CLASSES).probabilities(waveforms)
    multi = AudioClassifier(model, frontend, CLASSES, multi_label=True).probabilities(waveforms)
    assert torch.allclose(single.sum(dim=1), torch.ones(2))
    assert torch.allclose(multi, model(frontend(waveforms)).sigmoid())


def test_a_numpy_waveform_will_do():
    classifier = AudioClassifier(*parts(), CLASSES)
    waveform = torch.randn(16_000)
    assert classifier.classify(waveform.numpy()) == classifier.classify(waveform)


def test_padded_waveforms_score_as_alone():
    classifier = AudioClassifier(*parts(), CLASSES)
    waveform = torch.randn(5_000)
    padded = torch.nn.functional.pad(waveform, (0, 3_000))[None]
    alone = classifier.probabilities(waveform[None])
    assert torch.equal(classifier.probabilities(padded, torch.tensor([5_000])), alone)


def test_a_clip_of_nearly_the_models_length_is_cut_as_in_training():
    classifier = AudioClassifier(*parts(), CLASSES)
    assert classifier.longest_clip == round(1.1 * classifier.window_size)
    waveform = torch.randn(classifier.longest_clip + 1, generator=torch.Generator().manual_seed(0))
    cut, longer = (classifier.classify(sound, top_k=1) for sound in (waveform[:-1], waveform))
    # The mean that is taken off is of one sample more.
    assert cut[0][1] == pytest.approx(
        classifier.probabilities(waveform[None]).max().item(), abs=1e-4
    )
    assert longer == classifier.timeline(waveform).top(1) != cut


def test_a_longer_recording_is_heard_to_its_end():
    classifier = AudioClassifier(*parts(), CLASSES)
    waveform = torch.randn(3 * classifier.window_size)
    changed = torch.cat([waveform[:-2_000], torch.zeros(2_000)])
    assert classifier.classify(waveform) == classifier.timeline(waveform).top(5)
    assert classifier.classify(waveform) != classifier.classify(changed)


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(500, 16), (400 + 160 * 15, 16), (400 + 160 * 16, 26), (6_000, 36), (10_480, 64)],
)
def test_an_unpadded_clip_is_the_patches_that_hold_the_clip(samples, frames):
    classifier = AudioClassifier(*parts(), CLASSES)
    waveform = torch.randn(1, samples)
    fbank = classifier.frontend(waveform)[:, :frames]
    logits = classifier(waveform, pad=False)
    torch.testing.assert_close(logits, classifier.model(fbank, pad=False))
    assert classifier.classify(waveform[0], pad=False)[0][1] == logits.softmax(-1).max()


def test_no_padding_of_a_clip_that_fills_the_model_changes_nothing():
    classifier = AudioClassifier(*parts(), CLASSES)
    for samples in (10_480, 30_000):
        waveform = torch.randn(1, samples)
        assert torch.equal(classifier(waveform), classifier(waveform, pad=False))


def test_a_batch_runs_at_its_longest_clip():
    """Its longest clip scores as alone, another one as if padded to that length."""
    classifier = AudioClassifier(*parts(), CLASSES)
    waveforms, lengths = torch.randn(2, 9_000), torch.tensor([3_000, 5_000])
    logits = classifier(waveforms, lengths, pad=False)
    longest = classifier(waveforms[1:, :5_000], pad=False)
    torch.testing.assert_close(logits[1:], longest)
    fbank = classifier.frontend(waveforms[:1], lengths[:1], num_frames=36)
    torch.testing.assert_close(logits[:1], classifier.model(fbank, pad=False))


def test_bad_unpadded_clips_get_the_front_ends_line():
    classifier = AudioClassifier(*parts(), CLASSES)
    with pytest.raises(ValueError, match="clip 0 has 300 samples; at least 400"):
        classifier(torch.randn(1, 300), pad=False)
    with pytest.raises(ValueError, match=r"expected \(2,\) integers"):
        classifier(torch.randn(2, 900), torch.tensor([900]), pad=False)


@pytest.mark.parametrize("pad", [True, False])
def test_embeddings_of_clip_frame_and_patch_are_one_sounds(pad):
    classifier = AudioClassifier(*parts(), CLASSES)
    waveforms = torch.randn(2, 5_600)
    clip, frame, patch = (
        classifier.embed(waveforms, level=level, pad=pad) for level in ("clip", "frame", "patch")
    )
    time = 5 if pad else 3
    assert (clip.shape, frame.shape, patch.shape) == ((2, 24), (2, time, 24), (2, 12, time, 24))
    logits = classifier(waveforms, pad=pad)
    head = torch.nn.Sequential(classifier.model.head_norm, classifier.model.head)
    torch.testing.assert_close(head(clip), logits)
    torch.testing.assert_close(frame, patch.mean(dim=1))
    assert not clip.requires_grad


def test_frame_and_patch_embeddings_lie_where_the_sound_is():
    """Without blocks to mix them: a click in frames 33 to 35 is in columns 2 and 3 of 16 frames."""
    classifier = AudioClassifier(*parts(), CLASSES)
    classifier.model.blocks = torch.nn.ModuleList()
    quiet = torch.zeros(1, 10_480)
    click = quiet.clone()
    click[:, 5_600:5_760] = torch.randn(160)
    for level, axes in (("frame", (0, 2)), ("patch", (0, 1, 3))):
        change = classifier.embed(click, level=level) - classifier.embed(quiet, level=level)
        assert change.abs().amax(dim=axes).nonzero().flatten().tolist() == [2, 3]


def test_a_frame_step_is_the_stride_in_seconds():
    assert AudioClassifier(*parts(), CLASSES).frame_step == pytest.approx(0.1)


def test_attention_maps_are_the_models():
    classifier = AudioClassifier(*parts(), CLASSES)
    waveforms, lengths = torch.randn(2, 9_000), torch.tensor([9_000, 4_000])
    for kind in ("rollout", "last"):
        found = classifier.attention_map(waveforms, lengths=lengths, kind=kind)
        wanted = classifier.model.attention_map(classifier.frontend(waveforms, lengths), kind)
        assert found.shape == (2, *classifier.model.config.grid)
        assert torch.equal(found, wanted)
    assert classifier.attention_map(waveforms[:, :4_000], pad=False).shape == (2, 12, 2)


class ImageModel(torch.nn.Linear):
    """Stands for a baseline: scores of a whole filterbank, and nothing else."""

    def __init__(self):
        super().__init__(64 * 128, 3)
        self.config = BaselineConfig("resnet", num_classes=3, num_frames=64, num_mel_bins=128)

    def forward(self, fbank):
        return super().forward(fbank.flatten(1))


def test_a_baseline_has_scores_and_timelines_but_no_patches():
    classifier = AudioClassifier(ImageModel(), parts()[1], CLASSES)
    waveforms = torch.randn(1, 30_000)
    assert classifier.timeline(waveforms[0]).top(1) == classifier.classify(waveforms[0], top_k=1)
    for ask in (
        lambda: classifier(waveforms, pad=False),
        lambda: classifier.embed(waveforms),
        lambda: classifier.attention_map(waveforms),
        lambda: classifier.frame_step,
    ):
        with pytest.raises(ValueError, match="resnet is no AST: it has no patches"):
            ask()


def test_unknown_wishes_list_the_known_ones():
    classifier = AudioClassifier(*parts(), CLASSES)
    with pytest.raises(ValueError, match="'token' is unknown; use one of clip, frame, patch"):
        classifier.embed(torch.randn(1, 9_000), level="token")
    with pytest.raises(ValueError, match="'flow' is unknown; use rollout or last"):
        classifier.attention_map(torch.randn(1, 9_000), kind="flow")


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="takes num_frames 64, but the front end makes 96"):
        AudioClassifier(*parts(frontend_frames=96), CLASSES)
    with pytest.raises(ValueError, match="3 class names for a model of 4 classes"):
        AudioClassifier(*parts(num_classes=4), CLASSES)


def test_stereo_and_empty_wishes_are_refused():
    classifier = AudioClassifier(*parts(), CLASSES)
    with pytest.raises(ValueError, match=r"shape \(2, 16000\), expected \(samples,\)"):
        classifier.classify(torch.randn(2, 16_000))
    with pytest.raises(ValueError, match="top_k 0 is not positive"):
        classifier.classify(torch.randn(16_000), top_k=0)


def test_class_names_that_occur_twice_are_refused_by_name():
    with pytest.raises(ValueError, match="class names occur more than once: dog; give each"):
        AudioClassifier(*parts(), ("dog", "rain", "dog"))


@pytest.mark.parametrize("classes", ["abc", [0, 1, 2], range(3)])
def test_what_are_no_class_names_is_refused(classes):
    with pytest.raises(ValueError, match="are not a list of names; give a str for each output"):
        AudioClassifier(*parts(), classes)


def test_logits_are_differentiable_down_to_the_waveform():
    classifier = AudioClassifier(*parts(), CLASSES)
    waveforms = torch.randn(2, 9_000, requires_grad=True)
    classifier(waveforms).sum().backward()
    assert waveforms.grad.abs().sum() > 0
    for name, parameter in classifier.named_parameters():
        assert parameter.grad is not None, name


def check_low_precision(classifier, waveforms, dtype):
    """The network computes in `dtype` on the filterbank that float32 gives; results are float32."""
    expected, vectors = classifier.probabilities(waveforms), classifier.embed(waveforms)
    fbank = classifier.frontend(waveforms)
    classifier.to(dtype)
    assert classifier(waveforms).dtype == dtype
    assert torch.equal(classifier.frontend(waveforms), fbank)
    found = classifier.probabilities(waveforms)
    assert found.dtype == classifier.embed(waveforms).dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.01)
    torch.testing.assert_close(classifier.embed(waveforms), vectors, rtol=0.1, atol=0.1)
    assert classifier.attention_map(waveforms).dtype == torch.float32
    assert classifier.classify([*waveforms])[0][0][1] == pytest.approx(found[0].max().item())


@pytest.mark.precision
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.half])
def test_in_16_bits_the_front_end_stays_exact(dtype):
    torch.manual_seed(0)
    check_low_precision(AudioClassifier(*parts(), CLASSES), torch.randn(2, 9_000), dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.half])
def test_on_a_gpu_in_16_bits(dtype):
    torch.manual_seed(0)
    classifier = AudioClassifier(*parts(), CLASSES)
    waveforms = torch.randn(2, 9_000)
    on_cpu = classifier.probabilities(waveforms)
    classifier.to("cuda")
    assert classifier(waveforms).device.type == "cuda"
    assert classifier.classify(waveforms[0].numpy())  # sounds may lie anywhere
    torch.testing.assert_close(classifier.probabilities(waveforms).cpu(), on_cpu, atol=1e-4, rtol=0)
    check_low_precision(classifier, waveforms.cuda(), dtype)

"""Adapting a checkpoint to another input, stride or set of classes."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weights
from ast_model import AudioClassifier, Frontend, FrontendConfig
from ast_model.positions import fit_positions
from data.files import this_process

CLASSES = ("dog", "rain", "sea waves")


@pytest.fixture
def folder(tmp_path, tiny):
    frontend = Frontend(FrontendConfig(num_frames=64, mean=-5.0, std=3.0))
    weights.save(tmp_path / "model", AudioClassifier(tiny(), frontend, CLASSES))
    return tmp_path / "model"


def test_nothing_asked_for_nothing_changed_nothing_said(folder, tiny, caplog):
    loaded = weights.load(folder, num_classes=3, num_frames=64, stride=10, num_mel_bins=128)
    for name, tensor in tiny().state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    assert loaded.classes == CLASSES
    assert caplog.messages == []


def test_the_classifier_loads_with_the_same_arguments(folder):
    asked = {"num_frames": 36, "classes": ["a", "b", "c"], "mean": -4.0}
    ours, theirs = AudioClassifier.from_pretrained(folder, **asked), weights.load(folder, **asked)
    assert (ours.classes, ours.frontend.config) == (theirs.classes, theirs.frontend.config)
    assert ours.model.config.num_frames == 36


def test_each_change_is_said_in_a_line(folder, caplog):
    loaded = weights.load(folder, 7, 200, (16, 8), num_mel_bins=64, pooling="patches")
    assert caplog.messages == [
        "positions fitted from 12 x 5 patches to 4 x 24",
        "num_frames changed from 64 to 200",
        "num_mel_bins changed from 128 to 64",
        "stride changed from (10, 10) to (16, 8)",
        "pooling changed from cls to patches",
        "a new head for 7 classes instead of 3",
    ]
    assert loaded.classes == tuple(f"class_{index}" for index in range(7))
    assert loaded.frontend.config == FrontendConfig(200, 64, "hamming", -5.0, 3.0)


def test_another_number_of_classes_changes_the_head_alone(folder, tiny):
    loaded = weights.load(folder, num_classes=7).model
    for name, tensor in tiny().state_dict().items():
        if not name.startswith("head"):
            assert torch.equal(loaded.state_dict()[name], tensor), name
    assert torch.equal(loaded.head_norm.weight, torch.ones(24))
    assert loaded.head.weight.shape == (7, 24)
    assert 0.01 < loaded.head.weight.std() < 0.03


def test_new_names_keep_the_head_where_their_number_does(folder, tiny):
    loaded = weights.load(folder, classes=["a", "b", "c"])
    assert loaded.classes == ("a", "b", "c")
    assert torch.equal(loaded.model.head.weight, tiny().head.weight)


def test_a_new_head_has_to_be_asked_for_by_number(folder):
    message = r"2 class names for the 3 classes of .*or num_classes=2 as well for a new head"
    with pytest.raises(ValueError, match=message):
        weights.load(folder, classes=["a", "b"])
    with pytest.raises(ValueError, match="2 class names for the 5 classes"):
        weights.load(folder, num_classes=5, classes=["a", "b"])
    loaded = weights.load(folder, num_classes=2, classes=["a", "b"])
    assert (loaded.model.head.weight.shape, loaded.classes) == ((2, 24), ("a", "b"))


def test_letters_are_no_class_names(folder):
    with pytest.raises(ValueError, match="classes 'abc' are not a list of names"):
        weights.load(folder, classes="abc")


def test_the_heads_of_a_folder_are_its_own(folder):
    with pytest.raises(ValueError, match=r"heads is for a \.pth; .*model says its own"):
        weights.load(folder, heads=3)


def test_a_run_folder_is_its_last_model(folder):
    run = folder.parent
    (run / "recipe.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=rf"the run {run} has no last/ yet"):
        weights.load(run)
    folder.rename(run / "last")
    assert weights.load(run).classes == CLASSES


def test_what_the_front_end_and_the_scores_are_can_be_given(folder):
    loaded = weights.load(folder, mean=-6.5, std=2.5, window="hanning", multi_label=True)
    assert loaded.frontend.config == FrontendConfig(64, 128, "hanning", -6.5, 2.5)
    assert loaded.multi_label
    assert not loaded.training
    assert weights.load(folder, std=2.5).frontend.config.mean == -5.0
    with pytest.raises(ValueError, match=r"std 0 is not positive"):
        weights.load(folder, std=0)


def test_a_shorter_grid_is_the_middle_of_the_old_one(folder, tiny):
    loaded = weights.load(folder, num_frames=36).model  # 3 of 5 patches in time
    expected = fit_positions(tiny().positions, (12, 5), (12, 3))
    assert torch.equal(loaded.positions, expected)


def test_positions_nearest_and_reinit(folder, tiny):
    nearest = weights.load(folder, num_frames=128, positions="nearest").model
    expected = fit_positions(tiny().positions, (12, 5), (12, 12), "nearest")
    assert torch.equal(nearest.positions, expected)
    anew = weights.load(folder, positions="reinit").model.positions
    assert anew.shape == tiny().positions.shape
    assert 0.015 < anew.std() < 0.025
    with pytest.raises(ValueError, match=r"positions 'cubic' is unknown; use bilinear, nearest"):
        weights.load(folder, positions="cubic")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    frames=st.integers(16, 300),
    bins=st.integers(16, 160),
    stride=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_any_length_bins_and_stride_load_and_run(folder, frames, bins, stride):
    if ((bins - 16) // stride[0] + 1) * ((frames - 16) // stride[1] + 1) > 3000:
        return  # seconds of attention, and nothing new
    loaded = weights.load(folder, num_frames=frames, num_mel_bins=bins, stride=stride)
    config = loaded.model.config
    assert config.grid == ((bins - 16) // stride[0] + 1, (frames - 16) // stride[1] + 1)
    assert loaded.model.positions.shape == (1, config.num_tokens, 24)
    with torch.no_grad():
        logits = loaded(torch.randn(1, 400 + 160 * (frames - 1)))
    assert logits.shape == (1, 3) and logits.isfinite().all()


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(frames=st.integers(64, 200), stride=st.integers(5, 20))
def test_there_and_back_within_the_cut_is_the_identity(folder, frames, stride):
    """A grid that is saved and refitted to itself keeps every bit."""
    there = weights.load(folder, num_frames=frames, stride=stride)
    again = folder.parent / "again"
    weights.save(again, there)
    back = weights.load(again, num_frames=frames, stride=stride)
    assert torch.equal(there.model.positions, back.model.positions)


def test_a_name_that_is_nothing_is_refused_in_one_line():
    with pytest.raises(FileNotFoundError, match="there is no file or folder nothing") as error:
        weights.load("nothing")
    assert "\n" not in str(error.value)


def test_too_short_an_input_is_refused(folder):
    with pytest.raises(ValueError, match="num_frames 8 is smaller than one patch"):
        weights.load(folder, num_frames=8)


def test_a_model_whose_writer_was_killed_while_it_replaced_it_is_the_older_one(
    tmp_path, classifier
):
    weights.save(tmp_path / "model", classifier)
    ended = this_process()._replace(pid=4_194_304)  # beyond what Linux gives
    name = f".replaced-{ended.pid}.{ended.start}.{ended.machine}-model"
    (tmp_path / "model").rename(tmp_path / name)
    assert weights.load(tmp_path / "model").classes == classifier.classes

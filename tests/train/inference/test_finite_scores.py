"""A model that gives NaN names itself, in every command that runs one."""

import pytest

import weights
from train.inference import attention, embed, ensemble, evaluate, predict


def overflowing(source, folder):
    """A model whose weights are finite, and whose activations are not."""
    classifier = weights.load(source)
    classifier.model.patch_embedding.projection.weight.data.fill_(3e38)
    weights.save(folder, classifier)
    return folder


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_scores_vectors_and_maps_are_finite_or_refused(tmp_path, model_folder, sounds, precision):
    model, file = overflowing(model_folder, tmp_path / "model"), sounds / "a.wav"
    options = {"device": "cpu", "precision": precision}
    for run in (
        lambda: list(predict(model, file, **options)),
        lambda: list(predict(model, sounds / "long.wav", **options)),
        lambda: list(predict(model, file, pad=False, **options)),
        lambda: list(embed(model, file, **options)),
        lambda: attention(model, file, **options),
    ):
        with pytest.raises(ValueError, match=rf"^{model} gives NaN or infinity"):
            run()


def test_an_evaluation_and_an_ensemble_name_the_model(tmp_path, run_folder, corpus_folder):
    model = overflowing(run_folder, tmp_path / "model")
    choice = {"corpus": "synthetic", "fold": 2, "device": "cpu"}
    for run in (
        lambda: evaluate(model, corpus_folder, **choice),
        lambda: ensemble([run_folder, model], corpus_folder, **choice),
    ):
        with pytest.raises(ValueError, match=rf"^{model} gives NaN or infinity"):
            run()

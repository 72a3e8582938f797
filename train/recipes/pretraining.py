"""Self-supervised pretraining on recordings without labels.

    ast-audio pretrain ssast --data FOLDER           # recordings at any depth; labels are not read
    ast-audio pretrain ssast_frames --data FOLDER    # patches as high as the spectrogram
    ast-audio pretrain ssast_words --data FOLDER     # for words: the same, four frames each
    ast-audio pretrain mae --data FOLDER             # a light decoder; steps are cheaper
    ast-audio pretrain mae_frames --data FOLDER      # the same patches as ssast_words
    ast-audio train finetune --data FOLDER --init-from runs/ssast    # what they are for

`ssast` is the published setting (Gong, Lai, Chung and Glass, AAAI 2022, and its code): patches of
16 x 16 without overlap, clusters of them hidden, 78 % in all, Adam, 1,000 steps of warm-up, the
learning rate halved when the accuracy on held-out clips does not rise. Published are 10 epochs of
AudioSet and LibriSpeech: tiny with a learning rate of 5e-4 and batches of 120, base (--preset
base224) with 1e-4 and 24. `mae` is AudioMAE's way (Huang et al., NeurIPS 2022).

The fields of `CHOSEN_BY_DATA` are chosen by the data before training
(`train/pretraining/choose.py`), unless they are given: length of the input, mean and std, size and
number of batches, learning rate, warm-up and schedule. On a small data set that is a short run with
a cosine schedule; on one as large as AudioSet the published setting.
"""

from dataclasses import replace

from train.pretraining.choose import CHOSEN_BY_DATA
from train.pretraining.recipe import PretrainingRecipe

SSAST = PretrainingRecipe(
    name="ssast",
    summary="masked patches, told apart and reconstructed",
    from_data=CHOSEN_BY_DATA,
    corpus="folder",
    preset="tiny224",
    patch=(16, 16),
    pooling="patches",
    mask_share=0.78125,  # 400 of 512 patches
    window="hanning",
    num_frames=1024,
    mean=-4.2677393,
    std=4.5689974,
    epochs=10,
    batch_size=120,
    optimizer="adam",
    betas=(0.95, 0.999),
    learning_rate=5e-4,
    weight_decay=5e-7,
    schedule="plateau",
    lr_gamma=0.5,
    lr_decay_every=2,
    warmup_epochs=1.0,
)
SSAST_FRAMES = replace(
    SSAST,
    name="ssast_frames",
    summary="as ssast, on patches of two frames, as high as the spectrogram",
    patch=(128, 2),
    clusters=False,
)
SSAST_WORDS = replace(
    SSAST_FRAMES,
    name="ssast_words",
    summary="as ssast_frames, on patches of four frames, fewer of them hidden",
    patch=(128, 4),
    mask_share=0.6,
)
MAE = replace(
    SSAST,
    name="mae",
    summary="a masked autoencoder: the encoder sees what is not hidden",
    method="mae",
    loss="reconstruction",
    mask_share=0.8,
    clusters=False,
    decoder_width=96,
    decoder_depth=2,
    decoder_heads=3,
    batch_size=128,
    optimizer="adamw",
    betas=(0.9, 0.95),
    weight_decay=0.05,
    schedule="cosine",
)
MAE_FRAMES = replace(
    MAE,
    name="mae_frames",
    summary="as mae, on patches of four frames, as high as the spectrogram",
    patch=(128, 4),
    mask_share=0.6,
)

PRETRAINING_RECIPES: dict[str, PretrainingRecipe] = {
    recipe.name: recipe for recipe in (SSAST, SSAST_FRAMES, SSAST_WORDS, MAE, MAE_FRAMES)
}

"""BirdCLEF: birds in soundscapes, learnt from recordings of one species each, at 32 kHz.

    ast-audio train birdclef --data birdclef-2023                  # the AST
    ast-audio train birdclef_cnn --data birdclef-2023              # an EfficientNet-B3
    ast-audio train birdclef_cnn --data birdclef-2023 --model seresnext50_32x4d
    ast-audio train birdclef_cnn --data birdclef-2023 --model eca_nfnet_l0
    ast-audio predict runs/birdclef soundscapes/ --format birdclef --out submission.csv

What solutions of the competition have in common: a random window of five seconds a recording and
epoch, secondary labels as present (binary cross-entropy), rare species drawn more often, mixup and
CutMix, noise, shift, speed and pitch (extra `augment`), a cosine schedule. Mean and standard
deviation are measured on the data. Soundscapes are noisier than the recordings: with some without
birds, add --background-noise-prob 0.5 --noise-folder FOLDER. Few recordings of new species: start
from a run on other species, --init-from runs/birdclef/best. Without ImageNet weights: --init-from
scratch. Meant for a GPU. Not from the paper; no score is promised.
"""

from dataclasses import replace

from train.recipe import Recipe

BIRDCLEF = Recipe(
    name="birdclef",
    summary="BirdCLEF's recordings at 32 kHz, AST from ImageNet weights",
    from_data=frozenset({"mean", "std"}),
    corpus="birdclef",
    init_from="imagenet",
    num_frames=500,
    sample_rate=32_000,
    low_freq=50.0,
    epochs=30,
    batch_size=32,
    optimizer="adamw",
    betas=(0.9, 0.999),
    learning_rate=5e-5,
    weight_decay=0.01,
    schedule="cosine",
    warmup_epochs=1.0,
    max_grad_norm=1.0,
    loss="bce",
    balanced_sampling=True,
    metric="mAP",
    gaussian_snr_prob=0.3,
    gain_prob=0.3,
    time_stretch_prob=0.2,
    pitch_shift_prob=0.2,
    placement="random",
    mixup_rate=0.5,
    cutmix_rate=0.25,
    frequency_mask=16,
    time_mask=50,
)
BIRDCLEF_CNN = replace(
    BIRDCLEF,
    name="birdclef_cnn",
    summary="BirdCLEF's recordings at 32 kHz, a CNN from ImageNet weights",
    model="tf_efficientnet_b3.ns_jft_in1k",
    learning_rate=5e-4,
)

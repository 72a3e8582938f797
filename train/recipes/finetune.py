"""Your own recordings, from the published AudioSet model or from scratch.

    ast-audio train finetune --data FOLDER                      # FOLDER/class/recording.wav
    ast-audio train finetune --corpus table --data clips.csv    # columns path, label, …
    ast-audio train from_scratch --data FOLDER                  # needs no pretrained weights

The fields of `CHOSEN` are chosen by the data before training (`train/preparation/choose.py`),
unless they are given: length of the input, mean and std, size and number of batches, learning
rates, mixup, masks and background, and from scratch the network. What stands here for them is for
scripts that do not choose. AdamW with a cosine schedule, label smoothing and mixup are what works
with few clips. Recordings with several classes each: --loss bce --metric mAP. Not from the paper;
no score is promised, since the data are yours.

Measured: 2,000 spoken digits of four speakers in ten folders, `train from_scratch --data DIGITS`
and nothing else: 98.0 % on its test split of 200 at the last epoch (32), 99.0 % at the one that
validation chooses, in 3 min 50 s on two cores with AMX (bf16). Arabic words, a table, 18 speakers
for training and 6 others for validation: 95.17 % validation at the last epoch (30).
"""

from dataclasses import replace

from train.preparation.choose import CHOSEN
from train.recipe import Recipe

FINETUNE = Recipe(
    name="finetune",
    summary="your own recordings, from AudioSet weights",
    from_data=CHOSEN,
    corpus="folder",
    init_from="audioset",
    window="hanning",
    num_frames=1024,
    mean=-4.2677393,
    std=4.5689974,
    epochs=10,
    batch_size=16,
    optimizer="adamw",
    betas=(0.9, 0.999),
    learning_rate=5e-5,
    layer_decay=0.75,
    weight_decay=0.05,
    schedule="cosine",
    warmup_epochs=1.0,
    max_grad_norm=1.0,
    label_smoothing=0.1,
    placement="random",
    background_rate=0.15,
    mixup_rate=0.5,
    frequency_mask=24,
    time_mask=96,
)
FROM_SCRATCH = replace(
    FINETUNE,
    name="from_scratch",
    summary="your own recordings, without pretrained weights",
    init_from="scratch",
    window="hamming",
    preset="tiny224",
    patch=(128, 4),
    stride=(128, 4),
    pooling="patches",
    num_frames=128,
    epochs=40,
    warmup_epochs=4.0,
    batch_size=32,
    learning_rate=5e-4,
    layer_decay=1.0,
    time_mask=16,
)

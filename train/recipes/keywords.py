"""Short words of one's own, one to a clip of about a second: keyword spotting.

    ast-audio pretrain ssast_words --data FOLDER         # the same clips; labels are not read
    ast-audio train keyword_spotting --data FOLDER       # from runs/ssast_words

From masked patches of the same clips: tiny, patches of 4 frames as high as the spectrogram. Voices
that were not heard in training are what it has to be ready for: frequency and tempo of the training
clips are warped. Length, mean, std and time mask are chosen by the data.

Measured on 7,200 Arabic words of 18 speakers (`--epochs 40` of pretraining): 98.38 % of 2,400 words
of 6 other speakers at the last epoch, 35 and 24 minutes on two cores of a CPU with AMX (the second
with `--compile`). `from_scratch` has 95.17 %, this recipe from random weights 95.21 % (`--init-from
scratch --window hamming --learning-rate 1e-3 --layer-decay 1 --epochs 40 --warmup-epochs 4`), from
`mae_frames` (60 epochs) 96.54 %, without the warps 96.13 %.
"""

from dataclasses import replace

from train.recipes.finetune import FROM_SCRATCH

KEYWORD_SPOTTING = replace(
    FROM_SCRATCH,
    name="keyword_spotting",
    summary="your own words of about a second, after `pretrain ssast_words` on them",
    from_data=frozenset({"num_frames", "mean", "std", "time_mask", "background_rate"}),
    init_from="runs/ssast_words/last",
    window="hanning",
    epochs=30,
    warmup_epochs=2.0,
    batch_size=64,
    learning_rate=5e-4,
    layer_decay=0.85,
    mixup_rate=0.5,
    frequency_warp=0.12,
    time_warp=0.15,
    time_shift_frames=10,
)

"""Your own recordings, from the published AudioSet model.

    ast-audio train finetune --data FOLDER                      # FOLDER/class/recording.wav
    ast-audio train finetune --corpus table --data clips.csv    # columns path, label, …
    ast-audio train finetune --corpus folder --data FOLDER --num-frames 300    # clips of 3 s

Ten passes over the clips with AdamW, a cosine schedule and a lower rate for lower blocks, which
keeps what the model knows when clips are few. Recordings with several classes each: --loss bce
--metric mAP. Not from the paper; no score is promised, since the data are yours.
"""

from train.recipe import Recipe

FINETUNE = Recipe(
    name="finetune",
    summary="your own recordings, from AudioSet weights",
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
    mixup_rate=0.5,
    frequency_mask=24,
    time_mask=96,
)

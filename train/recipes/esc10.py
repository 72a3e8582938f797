"""ESC-10 from scratch: 320 training clips, no pretraining, two CPU cores."""

from train.recipe import Recipe

ESC10_SCRATCH = Recipe(
    name="esc10_scratch",
    corpus="esc10",
    preset="tiny224",
    num_mel_bins=64,
    patch=(16, 32),
    stride=(16, 32),
    pooling="patches",
    mean=-5.854,
    std=6.021,
    epochs=60,
    batch_size=32,
    optimizer="adamw",
    betas=(0.9, 0.999),
    learning_rate=5e-4,
    weight_decay=0.05,
    schedule="cosine",
    warmup_epochs=6.0,
    clip_gradient=1.0,
    label_smoothing=0.1,
    mixup_rate=0.5,
    frequency_mask=12,
    time_mask=96,
    roll_frames=256,
)

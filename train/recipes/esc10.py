"""ESC-10 from scratch: 320 training clips, no pretraining, two CPU cores."""

from train.recipe import Recipe

ESC10_SCRATCH = Recipe(
    name="esc10_scratch",
    corpus="esc10",
    preset="tiny224",
    patch=(128, 8),
    stride=(128, 8),
    pooling="patches",
    mean=-6.2911,
    std=5.7810,
    epochs=80,
    batch_size=32,
    optimizer="adamw",
    betas=(0.9, 0.999),
    learning_rate=5e-4,
    weight_decay=0.05,
    schedule="cosine",
    warmup_epochs=8.0,
    clip_gradient=1.0,
    label_smoothing=0.1,
    mixup_rate=0.5,
    frequency_mask=24,
    time_mask=96,
    roll_frames=256,
)

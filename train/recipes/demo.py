"""The demonstration: a tiny AST on the synthetic data set, two CPU cores."""

from train.recipe import Recipe

DEMO = Recipe(
    name="demo",
    corpus="synthetic",
    preset="tiny224",
    num_frames=192,
    patch=(16, 16),
    stride=(16, 16),
    mean=-9.0,
    std=4.0,
    epochs=20,
    batch_size=16,
    optimizer="adamw",
    betas=(0.9, 0.999),
    learning_rate=5e-4,
    weight_decay=0.05,
    schedule="cosine",
    warmup_epochs=2.0,
    clip_gradient=1.0,
    frequency_mask=16,
    time_mask=24,
    roll_frames=10,
)

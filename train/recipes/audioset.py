"""AudioSet (paper, section 3.1), balanced and full, as the authors' code trains it.

    ast-audio train audioset_balanced --data datasets/audioset
    ast-audio train audioset_full --data datasets/audioset

Expected mAP on the evaluation set, of the averaged weights: balanced 0.347 +- 0.001, full 0.459 +-
0.000 (paper; the last epoch alone 0.448 on full). Meant for several GPUs. The authors' warm-up sets
the rate every 50 steps, the first time to zero; here it rises with every step.
"""

from dataclasses import replace

from train.recipe import Recipe

AUDIOSET_BALANCED = Recipe(
    name="audioset_balanced",
    summary="AudioSet, balanced subset, as published",
    corpus="audioset_balanced",
    init_from="imagenet",
    num_frames=1024,
    mean=-4.2677393,
    std=4.5689974,
    epochs=25,
    batch_size=12,
    learning_rate=5e-5,
    lr_gamma=0.5,
    lr_decay_from=10,
    lr_decay_every=5,
    warmup_steps=1000,
    loss="bce",
    metric="mAP",
    average_epochs=(6, 25),
    checkpoint_ensemble=True,
    mixup_rate=0.5,
    frequency_mask=48,
    time_mask=192,
)
AUDIOSET_FULL = replace(
    AUDIOSET_BALANCED,
    name="audioset_full",
    summary="AudioSet, all of it, as published",
    corpus="audioset_full",
    epochs=5,
    learning_rate=1e-5,
    lr_decay_from=2,
    lr_decay_every=1,
    balanced_sampling=True,
    average_epochs=(1, 5),
)

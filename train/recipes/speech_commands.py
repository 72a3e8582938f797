"""Speech Commands V2, 35 words (paper, section 3.2), as the authors' code trains it.

    ast-audio download speech_commands datasets/speech_commands
    ast-audio train speech_commands --data datasets/speech_commands

Expected test accuracy, at the epoch with the best validation: 98.11 +- 0.05 % (paper). Meant for a
GPU: 84,843 training clips of 128 frames, 30 epochs. The paper says 20 epochs, the code trains 30.

    ast-audio train speech_commands_scratch --data FOLDER

is for few clips and no pretrained weights: tiny, patches as high as the spectrogram (four times as
few), smaller batches, AdamW and a cosine. Measured on 2,000 spoken digits of four speakers with
--mean -2.8005 --std 4.7679: 97.5 % on the testing list at the epoch chosen by validation, 97.0 % at
the last; 20 minutes on one busy core.
"""

from dataclasses import replace

from train.recipe import Recipe

SPEECH_COMMANDS = Recipe(
    name="speech_commands",
    summary="Speech Commands V2 from ImageNet weights, as published",
    corpus="speech_commands",
    init_from="imagenet",
    num_frames=128,
    mean=-6.845978,
    std=5.5654526,
    epochs=30,
    batch_size=128,
    learning_rate=2.5e-4,
    loss="bce",
    mixup_rate=0.6,
    frequency_mask=48,
    time_mask=48,
    noise=True,
    time_shift_frames=10,
)
SPEECH_COMMANDS_SCRATCH = replace(
    SPEECH_COMMANDS,
    name="speech_commands_scratch",
    summary="few clips of one word each, without pretraining",
    init_from="scratch",
    preset="tiny224",
    patch=(128, 4),
    stride=(128, 4),
    pooling="patches",
    epochs=40,
    batch_size=32,
    optimizer="adamw",
    learning_rate=5e-4,
    weight_decay=0.05,
    schedule="cosine",
    warmup_epochs=4.0,
)

"""Speech Commands V2, 35 words (paper, section 3.2), as the authors' code trains it.

    ast-audio download speech_commands datasets/speech_commands
    ast-audio train speech_commands --data datasets/speech_commands

Expected test accuracy, at the epoch with the best validation: 98.11 +- 0.05 % (paper). Meant for a
GPU: 84,843 training clips of 128 frames, 30 epochs. The paper says 20 epochs, the code trains 30.
"""

from train.recipe import Recipe

SPEECH_COMMANDS = Recipe(
    name="speech_commands",
    corpus="speech_commands",
    start_from="imagenet",
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
    roll_frames=10,
)

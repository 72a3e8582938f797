"""The recipes by name. One file a corpus or a job; each says its command, score and time."""

from __future__ import annotations

from train.recipe import Recipe
from train.recipes.audioset import AUDIOSET_BALANCED, AUDIOSET_FULL
from train.recipes.birdclef import BIRDCLEF, BIRDCLEF_CNN
from train.recipes.demo import DEMO
from train.recipes.esc10 import ESC10_SCRATCH
from train.recipes.esc50 import ESC50, ESC50_IMAGENET, ESC50_SCRATCH
from train.recipes.finetune import FINETUNE, FROM_SCRATCH
from train.recipes.keywords import KEYWORD_SPOTTING
from train.recipes.speech_commands import SPEECH_COMMANDS, SPEECH_COMMANDS_SCRATCH

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        DEMO,
        ESC10_SCRATCH,
        ESC50,
        ESC50_IMAGENET,
        ESC50_SCRATCH,
        SPEECH_COMMANDS,
        SPEECH_COMMANDS_SCRATCH,
        AUDIOSET_BALANCED,
        AUDIOSET_FULL,
        BIRDCLEF,
        BIRDCLEF_CNN,
        FINETUNE,
        FROM_SCRATCH,
        KEYWORD_SPOTTING,
    )
}

"""ESC-50 (paper, section 3.2), as the authors' code trains it, from three starts.

    ast-audio download esc50 datasets/esc50
    ast-audio crossval esc50 --data datasets/esc50

Expected mean accuracy over five folds: from AudioSet 95.6 +- 0.4 %, from ImageNet 88.7 +- 0.7 %
(paper; epoch chosen by the mean over the folds). From scratch none is published. Meant for a GPU:
two CPU cores train base384 at 0.56 clips/s. The paper says 20 epochs, the authors' code trains 25.
The AudioSet weights keep the Hann window that they were trained behind; the others have Hamming.
"""

from dataclasses import replace

from train.recipe import Recipe

ESC50_IMAGENET = Recipe(
    name="esc50_imagenet",
    summary="ESC-50 from ImageNet weights, as published",
    init_from="imagenet",
    learning_rate=1e-4,
)
ESC50 = replace(
    ESC50_IMAGENET,
    name="esc50",
    summary="ESC-50 from AudioSet weights, as published",
    init_from="audioset",
    window="hanning",
    learning_rate=1e-5,
)
ESC50_SCRATCH = replace(
    ESC50_IMAGENET, name="esc50_scratch", summary="ESC-50 without pretraining", init_from="scratch"
)

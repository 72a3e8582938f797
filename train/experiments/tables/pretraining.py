"""Initial weights (paper, section 3.1.3, "Impact of ImageNet Pretraining").

    ast-audio ablate pretraining audioset_balanced --data datasets/audioset
    ast-audio ablate pretraining RECIPE --data FOLDER --checkpoint MODEL --rows none checkpoint

`imagenet` is the DeiT of the recipe's size; `checkpoint` is the model given as --checkpoint.
"""

from train.experiments.table import CHECKPOINT, Row, Table

PRETRAINING = Table(
    name="pretraining",
    title="Pretraining",
    rows=(
        Row("none", {"init_from": "scratch"}, balanced=0.148, full=0.366),
        Row("imagenet", {"init_from": "imagenet"}, balanced=0.347, full=0.459),
        Row("checkpoint", {"init_from": CHECKPOINT}),
    ),
    reference="none",
)

"""Initial weights (paper, section 3.1.3, "Impact of ImageNet Pretraining").

    ast-audio ablate pretraining audioset_balanced --data datasets/audioset
    ast-audio ablate pretraining RECIPE --data FOLDER --checkpoint MODEL --rows none checkpoint
    ast-audio ablate pretraining RECIPE --data FOLDER --clips-per-class 10 \\
        --checkpoint supervised=RUN ssast=RUN mae=RUN --rows none supervised ssast mae

`imagenet` is the DeiT of the recipe's size; `checkpoint` is the model given as --checkpoint, and
becomes a row for each where several are given with names.
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

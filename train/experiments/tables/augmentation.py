"""SpecAugment and mixup, with and without. Not a table of the paper.

    ast-audio ablate augmentation esc10_scratch --data FOLDER

The sizes of the masks are from the authors' ESC-50 recipe, the rate of mixup from AudioSet's.
"""

from train.experiments.table import Row, Table

NO_MASKS = {"frequency_mask": 0, "time_mask": 0}
MASKS = {"frequency_mask": 24, "time_mask": 96}  # mel bins, frames

AUGMENTATION = Table(
    name="augmentation",
    title="Augmentation",
    rows=(
        Row("none", {**NO_MASKS, "mixup_rate": 0.0}),
        Row("specaugment", {**MASKS, "mixup_rate": 0.0}),
        Row("mixup", {**NO_MASKS, "mixup_rate": 0.5}),
        Row("both", {**MASKS, "mixup_rate": 0.5}),
    ),
    reference="none",
)

"""Overlap of the patches (paper, section 3.1.3, "Impact of Patch Split Overlap").

    ast-audio ablate overlap audioset_balanced --data datasets/audioset --seeds 0 1 2

More overlap makes more tokens and more computation. All rows have 16 x 16 patches, whatever the
recipe's are.
"""

from train.experiments.table import Row, Table

OVERLAP = Table(
    name="overlap",
    title="Overlap of 16 x 16 patches",
    rows=(
        Row("overlap0", {"patch": (16, 16), "stride": (16, 16)}, balanced=0.336, full=0.451),
        Row("overlap2", {"patch": (16, 16), "stride": (14, 14)}, balanced=0.342, full=0.456),
        Row("overlap4", {"patch": (16, 16), "stride": (12, 12)}, balanced=0.344, full=0.455),
        Row("overlap6", {"patch": (16, 16), "stride": (10, 10)}, balanced=0.347, full=0.459),
    ),
    reference="overlap6",
)

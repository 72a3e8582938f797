"""Shape of the patches, without overlap (paper, section 3.1.3, "Impact of Patch Shape and Size").

    ast-audio ablate patch-shape audioset_balanced --data datasets/audioset
    ast-audio ablate patch-shape RECIPE --data FOLDER --rows 128x2 16x16 32x32

Patches as high as the spectrogram are in the order of time, but no ImageNet model has their shape.
"""

from train.experiments.table import Row, Table


def _patch(frequency: int, time: int, init_from: str = "scratch") -> dict[str, object]:
    return {"patch": (frequency, time), "stride": (frequency, time), "init_from": init_from}


PATCH_SHAPE = Table(
    name="patch-shape",
    title="Shape of patches without overlap",
    rows=(
        Row("128x2", _patch(128, 2), balanced=0.154),
        Row("16x16", _patch(16, 16), balanced=0.143),
        Row("32x32", _patch(32, 32), balanced=0.139),
        Row("16x16-imagenet", _patch(16, 16, "imagenet"), balanced=0.336),
    ),
    reference="16x16",
)

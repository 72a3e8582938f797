"""Which ImageNet weights (paper, section 3.1.3, "Impact of ImageNet Pretraining").

    ast-audio ablate imagenet-weights audioset_balanced --data datasets/audioset

All rows are base384 with the recipe's overlap, but ViT-L, which the paper trains without overlap.
"""

from train.experiments.table import Row, Table


def _base(timm_name: str, distilled: bool = False) -> dict[str, str | bool]:
    return {"preset": "base384", "init_from": timm_name, "distilled": distilled}


IMAGENET_WEIGHTS = Table(
    name="imagenet-weights",
    title="ImageNet weights",
    rows=(
        Row("vit-b", _base("vit_base_patch16_384"), balanced=0.320),
        Row(
            "vit-l",
            {
                "preset": "large384",
                "init_from": "vit_large_patch16_384",
                "distilled": False,
                "patch": (16, 16),
                "stride": (16, 16),
            },
            balanced=0.330,
        ),
        Row("deit", _base("deit_base_patch16_384"), balanced=0.330),
        Row("deit-distilled", _base("deit_base_distilled_patch16_384", True), balanced=0.347),
    ),
    reference="deit-distilled",
)

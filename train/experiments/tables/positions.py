"""How the positional embedding of the initial weights is fitted to the recipe's grid.

Paper, section 3.1.3, "Impact of Positional Embedding Adaptation".

    ast-audio ablate positions audioset_balanced --data datasets/audioset
    ast-audio ablate positions RECIPE --data FOLDER --init-from MODEL

Needs initial weights with positions. Nearest and bilinear differ only along an axis that grows.
"""

from train.experiments.table import Row, Table

POSITIONS = Table(
    name="positions",
    title="Adaptation of the positional embedding",
    rows=(
        Row("reinit", {"positions": "reinit"}, balanced=0.305),
        Row("nearest", {"positions": "nearest"}, balanced=0.346),
        Row("bilinear", {"positions": "bilinear"}, balanced=0.347),
    ),
    reference="bilinear",
)

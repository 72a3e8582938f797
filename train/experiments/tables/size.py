"""Size of the model: those of DeiT's tiny, small and base. Not a table of the paper.

ast-audio ablate size speech_commands --data datasets/speech_commands
"""

from train.experiments.table import Row, Table

SIZE = Table(
    name="size",
    title="Size of the model",
    rows=(
        Row("tiny", {"preset": "tiny224"}),
        Row("small", {"preset": "small224"}),
        Row("base", {"preset": "base224"}),
    ),
    reference="base",
)

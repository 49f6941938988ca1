"""The arrays of Bour's checkpoints, and the layers here that they belong to.

Source: Bour, "Frequency dependent convolutions for music tagging", MediaEval 2021, by the checkpoints of the project
emotion-theme-recognition (MIT licence). A checkpoint holds the weights of the last step of training and, under a name
of their own, their averages over the last epochs, which the published scores are of.
"""

from tfmusictag.porting import conversion

_CONVS = (*(f"conv{n}" for n in (1, 2, 3)), *(f"filter{n}" for n in (1, 2, 3, 4)))

MAPS = {
    "frequency_dependent": conversion.Map(
        project="Bour's checkpoints (PyTorch)",
        reader="torch",
        layouts=conversion.TORCH,
        layers={
            **{name: f"{name}.conv" for name in _CONVS},
            **{f"{name}_norm": f"{name}.batchnorm" for name in _CONVS},
            "collapse": "collapse.conv.conv",
            "collapse_norm": "collapse.conv.batchnorm",
            "dense": "fco.dense",
            "logits": "output.dense",
        },
        ignored=("*.num_batches_tracked", "n_averaged"),
        parts={"averaged": "swa_model_state", "model": "model_state"},
    )
}

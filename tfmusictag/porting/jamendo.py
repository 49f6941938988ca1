"""The arrays of the MTG-Jamendo baseline's file, and the layers here that they belong to.

Source: Bogdanov, Won, Tovstogan, Porter and Serra, "The MTG-Jamendo dataset for automatic music tagging", ML4MD at ICML
2019, by the state dict of the baseline that the dataset ships (code Apache-2.0), which PyTorch's old format holds.
"""

from tfmusictag.porting import conversion

_STAGES = range(1, 6)

MAPS = {
    "jamendo_cnn": conversion.Map(
        project="MTG-Jamendo's baseline files (PyTorch)",
        reader="torch",
        layouts=conversion.TORCH,
        layers={
            "input_norm": "bn_init",
            **{f"conv{n}": f"conv_{n}" for n in _STAGES},
            **{f"conv{n}_norm": f"bn_{n}" for n in _STAGES},
            "logits": "dense",
        },
        ignored=("*.num_batches_tracked",),
    )
}

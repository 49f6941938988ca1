"""The trained weights that the PyPI wheel of musicnn carries, as presets."""

from tfmusictag.applications._catalogue import Preset
from tfmusictag.porting.wheel import Wheel

_WHEEL = Wheel(
    project="musicnn",
    version="0.1.0",
    filename="musicnn-0.1.0-py3-none-any.whl",
    sha256="f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa",
    size=29_292_476,
)
_CITATION = "Pons and Serra, musicnn: pre-trained convolutional neural networks for music audio tagging, ISMIR 2019"

# Training set -> (folder prefix, list of tags, what was learnt from).
_DATA = {
    "mtat": ("MTT", "magnatagatune_top50", "MagnaTagATune, folders 0 to b, clips of 29 s with and without tags"),
    "msd": ("MSD", "lastfm_top50", "Million Song Dataset, 201,680 previews with Last.fm's 50 most used tags"),
}
# (network, training set) -> (ROC-AUC, PR-AUC), as the result files of the wheel have them; the test sets are folders
# d to f of MagnaTagATune (5,329 clips, untagged ones included) and 28,435 MSD previews.
_METRICS = {
    ("musicnn", "mtat"): (0.90668, 0.38311),
    ("musicnn", "msd"): (0.88019, 0.28906),
    ("vgg", "mtat"): (0.90303, 0.38227),
    ("vgg", "msd"): (0.87676, 0.28192),
}


def presets(network, arguments=None):
    """Returns the presets of `network` ("musicnn" or "vgg"); `arguments` maps a preset to those it was built with."""
    found = {}
    for name, (prefix, vocabulary, data) in _DATA.items():
        roc_auc, pr_auc = _METRICS[network, name]
        found[name] = Preset(
            name=name,
            title=f"{prefix}_{network}",
            vocabulary=vocabulary,
            training_data=data,
            metrics=f"test ROC-AUC {roc_auc:.5f}, PR-AUC {pr_auc:.5f} (published)",
            licence="ISC",
            citation=_CITATION,
            source=_WHEEL,
            member=f"musicnn/{prefix}_{network}",
            licence_member="musicnn-0.1.0.dist-info/LICENSE.md",
            arguments=(arguments or {}).get(name, {}),
        )
    return found

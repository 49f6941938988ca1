"""tf.data pipelines: from tfds, records or files to the batches that `fit` and `evaluate` take."""

from tfmusictag._lazy import lazy_attributes

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "Gain": "augmenting",
        "Mixup": "augmenting",
        "Noise": "augmenting",
        "Polarity": "augmenting",
        "SpecAugment": "augmenting",
        "evaluate": "loading",
        "source": "sources",
        "train": "loading",
    },
)

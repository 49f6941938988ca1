"""Why a model says what it says: where its attention goes, what each moment adds, what its filters have become.

`explain` listens to a file with a trained model; the others take a keras.Model, most of them with one window of sound.
Each returns numbers that draw themselves: `plot` makes a figure or a file, `save` writes arrays.
"""

from tfmusictag._lazy import lazy_attributes

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "Attention": "_attention",
        "Contribution": "_contribution",
        "Filters": "_filters",
        "Gradient": "_gradient",
        "HarmonicFilters": "_harmonic_filters",
        "attention": "_attention",
        "contribution": "_contribution",
        "explain": "_running",
        "filters": "_filters",
        "gradient": "_gradient",
        "harmonic_filters": "_harmonic_filters",
        "methods": "_methods",
    },
)

"""Classifiers for few examples in scikit-learn's manner: `fit(waveforms, labels)`, `predict(waveforms)`.

Waveforms are a list of float32 `(samples,)` of any lengths, or an array `(clips, samples)`, at the `sample_rate` of the
classifier; clips that are shorter than a window are repeated. `curve` compares classifiers, `run` does it on a dataset;
`compare_presets` probes presets on one's own tags.
"""

from tfmusictag._lazy import lazy_attributes

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "ExtremeLearningMachine": "extreme",
        "NearestNeighbour": "nearest",
        "Probe": "probe",
        "PrototypicalNetwork": "prototypes",
        "RandomFeatures": "random_features",
        "SmallCNN": "small_cnn",
        "Transfer": "transfer",
        "compare_presets": "comparing",
        "curve": "curves",
        "method": "curves",
        "plot_curve": "curves",
        "run": "curves",
    },
)

"""From scores to measures and a report: of models of this package, or of any two arrays.

Importing this imports no TensorFlow; arrays need none at all.
"""

from tfmusictag._lazy import lazy_attributes

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "Comparison": "comparison",
        "Evaluation": "measures",
        "Predictions": "predictions",
        "align": "predictions",
        "average": "predictions",
        "choose": "thresholds",
        "compare": "comparison",
        "comparison": None,
        "evaluate": "measures",
        "measures": None,
        "perturbing": None,
        "predict": "predictions",
        "predictions": None,
        "report": "reporting",
        "reporting": None,
        "robustness": None,
        "run": "running",
        "thresholds": None,
    },
)

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
        "compare_runs": "over_runs",
        "comparison": None,
        "evaluate": "measures",
        "measure_runs": "over_runs",
        "measures": None,
        "over_runs": None,
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

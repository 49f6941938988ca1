"""Training: the papers' losses, optimisers, schedules and callbacks, recipes as data, and runs that survive a kill.

Importing this imports no TensorFlow; its attributes load at their first use.
"""

from tfmusictag._lazy import lazy_attributes

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "Adam": "optimizers",
        "BinaryFocalCrossentropy": "losses",
        "CosineAnnealing": "schedules",
        "HalveAfterRises": "schedules",
        "HalveAfterStalls": "schedules",
        "MODEL": "runs",
        "Recipe": "recipes",
        "RestartFromBest": "stages",
        "SGD": "optimizers",
        "Stages": "stages",
        "StochasticWeightAveraging": "averaging",
        "WeightedBinaryCrossentropy": "losses",
        "epoch_line": "runs",
        "list_recipes": "recipes",
        "recipe": "recipes",
        "train": "runs",
    },
)

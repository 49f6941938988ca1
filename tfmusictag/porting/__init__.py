"""Weights from elsewhere: other projects' checkpoints, the cache, the inspection of files before Keras reads them.

Stands under the applications: it knows files, arrays and names, and fills whatever model it is handed. Importing it
imports neither TensorFlow nor h5py.
"""

from tfmusictag.porting.weights import load as load_weights
from tfmusictag.porting.weights import save as save_weights
from tfmusictag.porting.wheel import Wheel

__all__ = ["Wheel", "load_weights", "save_weights"]

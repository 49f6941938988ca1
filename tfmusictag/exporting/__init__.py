"""Models as files for other runtimes: a SavedModel for servers, TFLite with metadata for phones.

Importing this imports no TensorFlow, and `read_metadata` needs none.
"""

from tfmusictag._lazy import lazy_attributes

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "TFLiteMetadata": "metadata",
        "export_saved_model": "saved_model",
        "export_tflite": "tflite",
        "metadata": None,
        "parity": None,
        "read_metadata": "metadata",
        "saved_model": None,
        "tflite": None,
    },
)

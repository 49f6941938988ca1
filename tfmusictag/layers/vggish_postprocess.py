"""VGGishPostprocess: from VGGish's embedding to the bytes that AudioSet is released in."""

import os
import zipfile
import zlib

import keras
import numpy as np
from keras import ops

from tfmusictag.errors import ModelError
from tfmusictag.layers import _precision

# Where components are cut off; what lies between becomes 0 to 255.
_LIMIT = 2.0
_TOP = 255.0
# What the arrays are called in `vggish_pca_params.npz`.
_EIGENVECTORS, _MEANS = "pca_eigen_vectors", "pca_means"
# The published file has 130 KiB; more is refused before it is unpacked.
_MAX_BYTES = 16 << 20
# What reading raises for what is no archive, damaged, encrypted or packed in an unknown way, or lies about its size.
_DAMAGED = (OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)


@keras.saving.register_keras_serializable("tfmusictag")
class VGGishPostprocess(keras.layers.Layer):
    """Maps embeddings (batch, width) to whole numbers from 0 to 255, (batch, width) float32 under every policy.

    The means are subtracted, the rest is projected on the eigenvectors (which whiten as well), cut off at -2 and 2,
    mapped to 0 to 255 and rounded down. AudioSet's own features went through this; transfer learning leaves it out.
    The matrix and the means are weights that are never trained. A new layer has the unit matrix and no means: give it
    those of a principal component analysis by `from_arrays`, `from_npz` or `set_weights`.

    Source: the `Postprocessor` of tensorflow/models, research/audioset/vggish.
    """

    def __init__(self, **kwargs):
        super().__init__(**_precision.float32_only("VGGishPostprocess", kwargs))
        self.input_spec = keras.layers.InputSpec(ndim=2)

    @classmethod
    def from_arrays(cls, eigenvectors, means, **kwargs):
        """Makes the layer of eigenvectors (width, width), one a row, and means (width,) or (width, 1).

        Raises:
            ValueError: arrays of other shapes, or with values that are not finite numbers.
        """
        eigenvectors, means = np.asarray(eigenvectors), np.asarray(means)
        width = len(eigenvectors) if eigenvectors.ndim else 0
        if width < 1 or eigenvectors.shape != (width, width) or means.shape not in ((width,), (width, 1)):
            raise ValueError(
                "`eigenvectors` and `means` must have the shapes (width, width) and (width,); received "
                f"{eigenvectors.shape} and {means.shape}."
            )
        for argument, received in (("eigenvectors", eigenvectors), ("means", means)):
            if received.dtype.kind not in "fiu" or not np.all(np.isfinite(received)):
                raise ValueError(f"`{argument}` must be finite real numbers; received dtype {received.dtype}.")
        layer = cls(**kwargs)
        layer.build((None, width))
        layer.set_weights([eigenvectors.astype("float32"), means.reshape(width).astype("float32")])
        return layer

    @classmethod
    def from_npz(cls, path, **kwargs):
        """Makes the layer of a file like the published `vggish_pca_params.npz`; nothing in it is executed.

        Raises:
            ModelError: "bad_pca", the file is missing or damaged, or has other arrays than those.
        """
        path = os.fspath(path)
        try:
            with zipfile.ZipFile(path) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > _MAX_BYTES:
                raise ModelError("bad_pca", f"{path!r} has {size} bytes unpacked, more than {_MAX_BYTES}.")
            with np.load(path, allow_pickle=False) as arrays:
                missing = [name for name in (_EIGENVECTORS, _MEANS) if name not in arrays]
                if missing:
                    raise ModelError(
                        "bad_pca", f"{path!r} must have the array {missing[0]!r}; received {sorted(arrays.files)}."
                    )
                found = arrays[_EIGENVECTORS], arrays[_MEANS]
        except _DAMAGED as error:
            raise ModelError("bad_pca", f"{path!r} must be a file of NumPy arrays (.npz): {error}") from error
        try:
            return cls.from_arrays(*found, **kwargs)
        except ValueError as error:
            raise ModelError("bad_pca", f"{path!r} has other arrays than expected: {error}") from error

    def build(self, input_shape):
        width = input_shape[-1]
        self.eigenvectors = self.add_weight(
            shape=(width, width), initializer="identity", trainable=False, name="eigenvectors"
        )
        self.means = self.add_weight(shape=(width,), initializer="zeros", trainable=False, name="means")
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: width})
        super().build(input_shape)

    def call(self, embedding):
        components = ops.matmul(embedding - self.means, ops.transpose(self.eigenvectors))  # (batch, width)
        return ops.floor((ops.clip(components, -_LIMIT, _LIMIT) + _LIMIT) * (_TOP / (2 * _LIMIT)))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

"""UnpackingBlock: doubles a feature map from its channels, the counterpart of PackingBlock."""

import math

import keras
from keras import ops

from tfmusictag import _arguments
from tfmusictag.layers import _packing, depth_to_space


@keras.saving.register_keras_serializable("tfmusictag")
class UnpackingBlock(keras.layers.Layer):
    """Maps (batch, height, width, channels) to (batch, ratio * height, ratio * width, filters).

    A 2-D convolution with group normalisation and ELU, a 3-D convolution that makes `depth_filters` channels of each,
    and `DepthToSpace`, which has the last word. Source: as of `PackingBlock`.

    Args:
        filters: channels of the result. ratio^2 * filters must be a multiple of depth_filters * groups, with the
            defaults a multiple of 32; without the 3-D convolution, of groups.
        kernel_size: side of the 2-D kernel.
        ratio: side of the squares that are unfolded, at least 2.
        depth_filters: filters of the 3-D convolution, which has no activation of its own.
        groups: of the normalisation.
        use_3d: False leaves the 3-D convolution out, and `depth_filters` with it.

    Raises:
        ValueError: a value outside of the above, or a height or width that is unknown.
    """

    def __init__(self, filters, kernel_size=3, ratio=2, depth_filters=8, groups=16, use_3d=True, **kwargs):
        super().__init__(**kwargs)
        self.filters = _arguments.whole("filters", filters, 1)
        self.kernel_size = _arguments.whole("kernel_size", kernel_size, 1)
        self.depth_filters = _arguments.whole("depth_filters", depth_filters, 1)
        self.groups = _arguments.whole("groups", groups, 1)
        self.use_3d = bool(use_3d)
        self.unpack = depth_to_space.DepthToSpace(ratio, dtype=self.dtype_policy, name="unpack")
        self.ratio = self.unpack.ratio
        self.input_spec = keras.layers.InputSpec(ndim=4)

        square = self.ratio * self.ratio
        parts = self.groups * (self.depth_filters if self.use_3d else 1)
        if square * self.filters % parts:
            rule = "depth_filters * groups" if self.use_3d else "groups"
            step = parts // math.gcd(parts, square)
            raise ValueError(
                f"ratio^2 * filters must be a multiple of {rule}; received {square} * {self.filters} for {parts}. "
                f"A multiple of {step} would do for `filters`."
            )

    def build(self, input_shape):
        channels = self.ratio * self.ratio * self.filters
        if self.use_3d:
            channels //= self.depth_filters
            self.tile_kernel, self.tile_bias = _packing.add_tile_weights(self, self.depth_filters)
        self.conv = _packing.build_convolution(self, input_shape, channels, self.kernel_size, "conv")
        self.norm = _packing.build_normalisation(self, (*input_shape[:3], channels), self.groups, "norm")
        super().build(input_shape)

    def call(self, inputs):
        x = ops.elu(self.norm(self.conv(inputs)))  # (batch, height, width, ratio^2 * filters / depth_filters)
        if self.use_3d:
            # (..., ratio^2 * filters)
            x = _packing.merge_tiles(_packing.convolve_tiles(x, self.tile_kernel, self.tile_bias))
        return self.unpack(x)  # (batch, ratio * height, ratio * width, filters)

    def compute_output_shape(self, input_shape):
        return self.unpack.compute_output_shape((*input_shape[:3], self.ratio * self.ratio * self.filters))

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "ratio": self.ratio,
            "depth_filters": self.depth_filters,
            "groups": self.groups,
            "use_3d": self.use_3d,
        }

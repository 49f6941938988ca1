"""PackingBlock: halves a feature map and keeps its detail."""

import keras
from keras import ops

from tfmusictag import _arguments
from tfmusictag.layers import _packing, space_to_depth


@keras.saving.register_keras_serializable("tfmusictag")
class PackingBlock(keras.layers.Layer):
    """Maps (batch, height, width, channels) to (batch, height / ratio, width / ratio, filters) without pooling.

    Pixels are folded into channels (`SpaceToDepth`), a 3-D convolution looks at neighbouring ones among them, and a
    2-D convolution chooses what to keep; group normalisation and ELU follow. Source: Guizilini et al., 3D packing for
    self-supervised monocular depth estimation, CVPR 2020, and the authors' packnet-sfm (`layers01`).

    Args:
        filters: channels of the result, a multiple of `groups`.
        kernel_size: side of the 2-D kernel.
        ratio: side of the squares that are folded, at least 2.
        depth_filters: filters of the 3-D convolution, which has no activation of its own.
        groups: of the normalisation.
        use_3d: False leaves the 3-D convolution out, and `depth_filters` with it.

    Raises:
        ValueError: a value outside of the above, or a height or width that is unknown or no multiple of `ratio`.
    """

    def __init__(self, filters, kernel_size=3, ratio=2, depth_filters=8, groups=16, use_3d=True, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.groups = _packing.whole_groups(filters, groups)
        self.kernel_size = _arguments.whole("kernel_size", kernel_size, 1)
        self.depth_filters = _arguments.whole("depth_filters", depth_filters, 1)
        self.use_3d = bool(use_3d)
        self.pack = space_to_depth.SpaceToDepth(ratio, dtype=self.dtype_policy, name="pack")
        self.ratio = self.pack.ratio
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape):
        *place, channels = self.pack.compute_output_shape(input_shape)
        if self.use_3d:
            self.tile_kernel, self.tile_bias = _packing.add_tile_weights(self, self.depth_filters)
            channels *= self.depth_filters
        self.conv = _packing.build_convolution(self, (*place, channels), self.filters, self.kernel_size, "conv")
        self.norm = _packing.build_normalisation(self, (*place, self.filters), self.groups, "norm")
        super().build(input_shape)

    def call(self, inputs):
        x = self.pack(inputs)  # (batch, height / ratio, width / ratio, ratio^2 * channels)
        if self.use_3d:
            # (..., depth_filters * ratio^2 * channels)
            x = _packing.merge_tiles(_packing.convolve_tiles(x, self.tile_kernel, self.tile_bias))
        return ops.elu(self.norm(self.conv(x)))  # (..., filters)

    def compute_output_shape(self, input_shape):
        return *self.pack.compute_output_shape(input_shape)[:3], self.filters

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

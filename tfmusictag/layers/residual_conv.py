"""ResidualConv: two convolutions beside a short cut, as PackNet has them between its packing blocks."""

import keras
from keras import ops

from tfmusictag.layers import _packing


@keras.saving.register_keras_serializable("tfmusictag")
class ResidualConv(keras.layers.Layer):
    """Maps (batch, height, width, channels) to (batch, height, width, filters).

    Two 3 x 3 convolutions, each with group normalisation and ELU, are added to a 1 x 1 convolution of the input; the
    sum is normalised and passes an ELU again. Source: as of `PackingBlock`.

    Args:
        filters: channels of the result, a multiple of `groups`.
        dropout: share of the short cut's channels that are dropped whole in training, from 0 to less than 1.
        groups: of the three normalisations.

    Raises:
        ValueError: a value outside of the above.
    """

    def __init__(self, filters, dropout=0.0, groups=16, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.groups = _packing.whole_groups(filters, groups)
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be from 0 to less than 1; received {dropout!r}.")
        self.dropout = float(dropout)
        self.drop = (
            keras.layers.SpatialDropout2D(self.dropout, dtype=self.dtype_policy, name="drop") if dropout else None
        )
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape):
        inner = self.compute_output_shape(input_shape)
        self.first = _packing.build_convolution(self, input_shape, self.filters, 3, "first")
        self.first_norm = _packing.build_normalisation(self, inner, self.groups, "first_norm")
        self.second = _packing.build_convolution(self, inner, self.filters, 3, "second")
        self.second_norm = _packing.build_normalisation(self, inner, self.groups, "second_norm")
        self.shortcut = _packing.build_convolution(self, input_shape, self.filters, 1, "shortcut")
        self.norm = _packing.build_normalisation(self, inner, self.groups, "norm")
        super().build(input_shape)

    def call(self, inputs, training=None):
        x = ops.elu(self.first_norm(self.first(inputs)))
        x = ops.elu(self.second_norm(self.second(x)))
        shortcut = self.shortcut(inputs)
        if self.drop is not None:
            shortcut = self.drop(shortcut, training=training)
        return ops.elu(self.norm(x + shortcut))

    def compute_output_shape(self, input_shape):
        return *input_shape[:3], self.filters

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "dropout": self.dropout, "groups": self.groups}

"""The variables of VGGish's checkpoint, and the layers here that they belong to.

Source: Hershey et al., "CNN architectures for large-scale audio classification", ICASSP 2017, by the checkpoint
`vggish_model.ckpt` of tensorflow/models (Apache-2.0), in the saver's first format: one file. It ends at the embedding.
"""

from tfmusictag.porting import conversion

MAPS = {
    "vggish": conversion.Map(
        project="VGGish's checkpoint (TensorFlow 1)",
        reader="tf1",
        layouts=conversion.TF_SLIM,
        separator="/",
        layers={
            "conv1": "vggish/conv1",
            "conv2": "vggish/conv2",
            "conv3_1": "vggish/conv3/conv3_1",
            "conv3_2": "vggish/conv3/conv3_2",
            "conv4_1": "vggish/conv4/conv4_1",
            "conv4_2": "vggish/conv4/conv4_2",
            "dense1": "vggish/fc1/fc1_1",
            "dense2": "vggish/fc1/fc1_2",
            "dense3": "vggish/fc2",
        },
    )
}

"""The peers' networks in PyTorch, behind their front-ends: names and shapes of their state dicts, and what they answer.

Written from the fact sheet of the peers (layer tables, state dicts), not from their code, as the independent other side
of the converters' tests. Features are (batch, channels, bands, frames), waveforms (batch, 1, samples). Widths can be
made small, which changes no name. All of them end in logits: scores near 0 and 1 would hide what differs.
"""

import itertools

import numpy as np
import torch
from torch import nn
from torch.nn import functional


def randomised(network, seed):
    """Gives a network weights and running statistics that are not all alike, and stops its dropout."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith("running_mean"):
                tensor.normal_(0.0, 0.2, generator=generator)
            elif tensor.ndim > 1:
                # He's: activations keep their size through any number of layers.
                tensor.normal_(0.0, (2.0 / tensor[0].numel()) ** 0.5, generator=generator)
            elif name.endswith("weight"):  # of a normalisation
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith("bw_Q"):
                tensor.fill_(1.7)
            elif tensor.is_floating_point():
                tensor.normal_(0.0, 0.2, generator=generator)
    return network.eval()


class ConvBlock(nn.Module):
    """Convolution, normalisation, activation, pool over (bands, frames)."""

    def __init__(self, inputs, outputs, pool, activation=functional.relu):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn = nn.BatchNorm2d(outputs)
        self.pool = pool
        self.activation = activation

    def forward(self, x):
        return functional.max_pool2d(self.activation(self.bn(self.conv(x))), self.pool)


class Sequence(nn.Module):
    """The base of networks whose blocks are called `layer1`, `layer2` and so on."""

    def add_layers(self, blocks):
        for number, block in enumerate(blocks, start=1):
            self.add_module(f"layer{number}", block)
        self.count = len(blocks)

    def run_layers(self, x):
        for number in range(1, self.count + 1):
            x = getattr(self, f"layer{number}")(x)
        return x

    def add_head(self, units, classes):
        self.dense1 = nn.Linear(units, units)
        self.bn = nn.BatchNorm1d(units)
        self.dense2 = nn.Linear(units, classes)

    def run_head(self, x):
        return self.dense2(torch.relu(self.bn(self.dense1(x))))


class FCN(Sequence):
    def __init__(self, width=64, classes=50):
        super().__init__()
        self.spec_bn = nn.BatchNorm2d(1)
        widths = itertools.pairwise((1, width, 2 * width, 2 * width, 2 * width, width))
        pools = ((2, 4), (2, 4), (2, 4), (3, 5), (4, 4))
        self.add_layers([ConvBlock(*sizes, pool) for sizes, pool in zip(widths, pools, strict=True)])
        self.dense = nn.Linear(width, classes)

    def forward(self, x):
        return self.dense(self.run_layers(self.spec_bn(x)).flatten(1))


class VerticalBlock(nn.Module):
    """A filter over many bands and few frames, and the maximum of the bands where it fits."""

    def __init__(self, outputs, bands, frames):
        super().__init__()
        self.conv = nn.Conv2d(1, outputs, (bands, frames), padding=(0, frames // 2))
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x))).amax(2)


class HorizontalBlock(nn.Module):
    """A filter along the mean of the bands."""

    def __init__(self, outputs, frames):
        super().__init__()
        self.conv = nn.Conv1d(1, outputs, frames, padding=frames // 2)
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x.mean(2))))


class ConvBlock1d(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride=1, pool=1, padding=None):
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, padding)
        self.bn = nn.BatchNorm1d(outputs)
        self.pool = pool

    def forward(self, x):
        return functional.max_pool1d(torch.relu(self.bn(self.conv(x))), self.pool)


class Musicnn(nn.Module):
    def __init__(self, timbral=204, temporal=51, middle=64, units=200, classes=50):
        super().__init__()
        self.spec_bn = nn.BatchNorm2d(1)
        self.layers = nn.ModuleList(
            [
                *(VerticalBlock(timbral, bands, 7) for bands in (67, 38)),
                *(HorizontalBlock(temporal, frames) for frames in (129, 65, 33)),
            ]
        )
        front = 2 * timbral + 3 * temporal
        self.layer1 = ConvBlock1d(front, middle, 7)
        self.layer2 = ConvBlock1d(middle, middle, 7)
        self.layer3 = ConvBlock1d(middle, middle, 7)
        self.dense1 = nn.Linear(2 * (front + 3 * middle), units)
        self.bn = nn.BatchNorm1d(units)
        self.dense2 = nn.Linear(units, classes)

    def forward(self, x):
        x = self.spec_bn(x)
        front = torch.cat([layer(x) for layer in self.layers], dim=1)
        first = self.layer1(front)
        second = self.layer2(first) + first
        third = self.layer3(second) + second
        maps = torch.cat([front, first, second, third], dim=1)
        pooled = torch.cat([maps.amax(2), maps.mean(2)], dim=1)
        return self.dense2(torch.relu(self.bn(self.dense1(pooled))))


class CRNN(Sequence):
    def __init__(self, width=64, units=32, classes=50):
        super().__init__()
        self.spec_bn = nn.BatchNorm2d(1)
        widths = itertools.pairwise((1, width, 2 * width, 2 * width, 2 * width))
        pools = ((2, 2), (3, 3), (4, 4), (4, 4))
        self.add_layers([ConvBlock(*sizes, pool) for sizes, pool in zip(widths, pools, strict=True)])
        self.layer5 = nn.GRU(2 * width, units, 2, batch_first=True)
        self.dense = nn.Linear(units, classes)

    def forward(self, x):
        x = self.run_layers(self.spec_bn(x)).squeeze(2)  # (batch, channels, frames)
        steps, _ = self.layer5(x.transpose(1, 2))
        return self.dense(steps[:, -1])


# Outputs of the eleven layers of sample-level networks, in units of the width.
SAMPLE_WIDTHS = (1, 1, 1, 2, 2, 2, 2, 2, 2, 4, 4)


def sample_layers(block, width):
    outputs = [units * width for units in SAMPLE_WIDTHS]
    first = block(1, outputs[0], 3, stride=3)
    middle = [block(*sizes, 3, pool=3) for sizes in itertools.pairwise(outputs[:10])]
    return [first, *middle, block(outputs[9], outputs[10], 1)]


class SampleCNN(Sequence):
    def __init__(self, width=128, classes=50):
        super().__init__()
        self.add_layers(sample_layers(ConvBlock1d, width))
        self.dense = nn.Linear(4 * width, classes)

    def forward(self, x):
        return self.dense(self.run_layers(x).squeeze(2))


class SqueezedBlock(nn.Module):
    """A residual block whose channels are scaled before the sum."""

    def __init__(self, inputs, outputs, kernel, stride=1, pool=1):
        super().__init__()
        padding = kernel // 2
        self.conv_1 = nn.Conv1d(inputs, outputs, kernel, stride, padding)
        self.bn_1 = nn.BatchNorm1d(outputs)
        self.conv_2 = nn.Conv1d(outputs, outputs, kernel, 1, padding)
        self.bn_2 = nn.BatchNorm1d(outputs)
        self.dense1 = nn.Linear(outputs, outputs)
        self.dense2 = nn.Linear(outputs, outputs)
        self.projects = stride != 1 or inputs != outputs
        if self.projects:
            self.conv_3 = nn.Conv1d(inputs, outputs, kernel, stride, padding)
            self.bn_3 = nn.BatchNorm1d(outputs)
        self.pool = pool

    def forward(self, x):
        y = self.bn_2(self.conv_2(torch.relu(self.bn_1(self.conv_1(x)))))
        scale = torch.sigmoid(self.dense2(torch.relu(self.dense1(y.mean(2)))))
        shortcut = self.bn_3(self.conv_3(x)) if self.projects else x
        return functional.max_pool1d(torch.relu(y * scale[:, :, None] + shortcut), self.pool)


class SampleCNNSE(Sequence):
    def __init__(self, width=128, classes=50):
        super().__init__()
        self.add_layers(sample_layers(SqueezedBlock, width))
        self.add_head(4 * width, classes)

    def forward(self, x):
        return self.run_head(self.run_layers(x).squeeze(2))


class ShortChunkCNN(Sequence):
    def __init__(self, width=128, classes=50):
        super().__init__()
        self.spec_bn = nn.BatchNorm2d(1)
        widths = (1, *(units * width for units in (1, 1, 2, 2, 2, 2, 4)))
        self.add_layers([ConvBlock(*sizes, (2, 2)) for sizes in itertools.pairwise(widths)])
        self.add_head(4 * width, classes)

    def forward(self, x):
        return self.run_head(self.run_layers(self.spec_bn(x)).amax((2, 3)))


class ResidualBlock(nn.Module):
    """Two convolutions beside a third that projects; the strides are over (bands, frames)."""

    def __init__(self, inputs, outputs, strides=(2, 2)):
        super().__init__()
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, strides, 1)
        self.bn_1 = nn.BatchNorm2d(outputs)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.bn_2 = nn.BatchNorm2d(outputs)
        self.conv_3 = nn.Conv2d(inputs, outputs, 3, strides, 1)
        self.bn_3 = nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = self.bn_2(self.conv_2(torch.relu(self.bn_1(self.conv_1(x)))))
        return torch.relu(y + self.bn_3(self.conv_3(x)))


class ShortChunkCNNRes(Sequence):
    def __init__(self, width=128, classes=50):
        super().__init__()
        self.spec_bn = nn.BatchNorm2d(1)
        widths = (1, *(units * width for units in (1, 1, 2, 2, 2, 2, 4)))
        self.add_layers([ResidualBlock(*sizes) for sizes in itertools.pairwise(widths)])
        self.add_head(4 * width, classes)

    def forward(self, x):
        return self.run_head(self.run_layers(self.spec_bn(x)).amax((2, 3)))


def named(**modules):
    """A module that holds others under these names and does nothing itself."""
    holder = nn.Module()
    for name, module in modules.items():
        holder.add_module(name, module)
    return holder


class TransformerLayer(nn.Module):
    """BERT's: attention, then a feed-forward network, each added to its input and normalised."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        dense, norm = nn.Linear, nn.LayerNorm
        self.attention = named(
            self=named(query=dense(width, width), key=dense(width, width), value=dense(width, width)),
            output=named(dense=dense(width, width), LayerNorm=norm(width, eps=1e-12)),
        )
        self.intermediate = named(dense=dense(width, 4 * width))
        self.output = named(dense=dense(4 * width, width), LayerNorm=norm(width, eps=1e-12))

    def forward(self, x):
        batch, steps, width = x.shape
        own = self.attention.self

        def split(dense):
            return dense(x).reshape(batch, steps, self.heads, -1).transpose(1, 2)

        query, key, value = split(own.query), split(own.key), split(own.value)
        scores = torch.softmax(query @ key.transpose(2, 3) / (width // self.heads) ** 0.5, dim=-1)
        attended = (scores @ value).transpose(1, 2).reshape(batch, steps, width)
        x = self.attention.output.LayerNorm(self.attention.output.dense(attended) + x)
        hidden = self.intermediate.dense(x)
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        return self.output.LayerNorm(self.output.dense(hidden) + x)


class CNNSA(Sequence):
    def __init__(self, width=128, heads=8, classes=50):
        super().__init__()
        self.spec_bn = nn.BatchNorm2d(1)
        widths = (1, *(units * width for units in (1, 1, 2, 2, 2, 2, 2)))
        strides = ((2, 2),) * 3 + ((2, 1),) * 4
        self.add_layers(
            [ResidualBlock(*sizes, stride) for sizes, stride in zip(itertools.pairwise(widths), strides, strict=True)]
        )
        token = np.random.RandomState(0).uniform(0, 1, (1, 2 * width))
        self.token = torch.tensor(token, dtype=torch.float32)  # no part of the state dict
        self.encoder = named(layer=nn.ModuleList([TransformerLayer(2 * width, heads) for _ in range(2)]))
        self.pooler = named(dense=nn.Linear(2 * width, 2 * width))
        self.dense = nn.Linear(2 * width, classes)

    def forward(self, x):
        x = self.run_layers(self.spec_bn(x)).squeeze(2).transpose(1, 2)  # (batch, steps, width)
        x = torch.cat([self.token.expand(len(x), 1, -1), x], dim=1)
        for layer in self.encoder.layer:
            x = layer(x)
        return self.dense(torch.tanh(self.pooler.dense(x[:, 0])))


class PooledResidualBlock(nn.Module):
    """Two convolutions beside the input, then a pool over (bands, frames)."""

    def __init__(self, channels, pool):
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.bn_1 = nn.BatchNorm2d(channels)
        self.conv_2 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.bn_2 = nn.BatchNorm2d(channels)
        self.pool = pool

    def forward(self, x):
        y = self.bn_2(self.conv_2(torch.relu(self.bn_1(self.conv_1(x)))))
        return functional.max_pool2d(torch.relu(y + x), self.pool)


class HarmonicCNN(Sequence):
    """Takes the harmonic spectrogram (batch, harmonics, bands, frames); Q is in its state dict all the same."""

    def __init__(self, width=128, harmonics=6, classes=50):
        super().__init__()
        self.hstft = nn.Module()
        self.hstft.bw_Q = nn.Parameter(torch.ones(1))
        self.hstft_bn = nn.BatchNorm2d(harmonics)
        self.add_layers(
            [
                ConvBlock(harmonics, width, (2, 2)),
                *(PooledResidualBlock(width, (2, 2)) for _ in range(3)),
                ConvBlock(width, 2 * width, (2, 2)),
                *(PooledResidualBlock(2 * width, (2, 3)) for _ in range(2)),
            ]
        )
        self.add_head(2 * width, classes)

    def forward(self, x):
        return self.run_head(self.run_layers(self.hstft_bn(x)).amax((2, 3)))


class Jamendo(nn.Module):
    def __init__(self, width=64, classes=56):
        super().__init__()
        self.bn_init = nn.BatchNorm2d(1)
        widths = (1, width, 2 * width, 2 * width, 2 * width, width)
        for number, sizes in enumerate(itertools.pairwise(widths), start=1):
            self.add_module(f"conv_{number}", nn.Conv2d(*sizes, 3, padding=1))
            self.add_module(f"bn_{number}", nn.BatchNorm2d(sizes[1]))
        self.dense = nn.Linear(width, classes)

    def forward(self, x):
        x = self.bn_init(x)
        for number, pool in enumerate(((2, 4), (2, 4), (2, 4), (3, 5), (4, 4)), start=1):
            conv, norm = getattr(self, f"conv_{number}"), getattr(self, f"bn_{number}")
            x = functional.max_pool2d(functional.elu(norm(conv(x))), pool)
        return self.dense(x.flatten(1))


class BandwiseConv(nn.Module):
    """A 3 x 3 convolution with kernels of its own in each output band, computed as loops over them."""

    def __init__(self, inputs, outputs, bands, stride):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(bands * outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(bands * outputs))
        self.bands, self.stride = bands, stride

    def forward(self, x):
        padded = functional.pad(x, (1, 1, 1, 1))
        rows = []
        for weight, bias, first in zip(
            self.weight.chunk(self.bands), self.bias.chunk(self.bands), range(0, 10**6, self.stride), strict=False
        ):
            seen = padded[:, :, first : first + 3]  # (batch, inputs, 3, frames + 2)
            rows.append(functional.conv2d(seen, weight, bias, stride=(1, self.stride)))
        return torch.cat(rows, dim=2)


class GroupedBandwiseConv(BandwiseConv):
    """The same as one convolution of as many groups as output bands, whose neighbours are unfolded beforehand."""

    def forward(self, x):
        padded = functional.pad(x, (1, 1, 1, 1))
        seen = padded.unfold(2, 3, self.stride)  # (batch, inputs, bands, frames + 2, 3)
        seen = seen.permute(0, 2, 1, 4, 3).flatten(1, 2)  # (batch, bands * inputs, 3, frames + 2)
        found = functional.conv2d(seen, self.weight, self.bias, stride=(1, self.stride), groups=self.bands)
        return found[:, :, 0].unflatten(1, (self.bands, -1)).transpose(1, 2)  # (batch, outputs, bands, frames)


class BourLayer(nn.Module):
    def __init__(self, conv, outputs):
        super().__init__()
        self.conv = conv
        self.batchnorm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return torch.relu(self.batchnorm(self.conv(x)))


class Bour(nn.Module):
    """Takes normalised spectrograms (batch, 1, bands, frames), frames being `frames` or more."""

    def __init__(self, filters, bands=128, frames=128, width=64, classes=56):
        super().__init__()

        def layer(inputs, outputs, stride):
            return BourLayer(nn.Conv2d(inputs, outputs, 3, stride, 1), outputs)

        self.conv1 = layer(1, width, 2)
        self.conv2 = layer(width, width, 1)
        self.conv3 = layer(width, 2 * width, 1)
        inputs, rows = 2 * width, bands // 4
        for number, stride in enumerate((2, 2, 1, 2), start=1):
            rows //= stride
            shared = nn.Conv2d(inputs, 4 * width, 3, stride, 1)
            conv = BandwiseConv(inputs, 4 * width, rows, stride) if filters else shared
            self.add_module(f"filter{number}", BourLayer(conv, 4 * width))
            inputs = 4 * width
        self.collapse = named(conv=BourLayer(nn.Conv2d(inputs, 8 * width, (bands // 32, 1)), 8 * width))
        self.fco = named(dense=nn.Conv1d(8 * width, 16 * width, 1))
        self.output = named(dense=nn.Conv1d(16 * width, classes, 1))
        self.steps = frames // 32

    def forward(self, x):
        x = self.conv3(self.conv2(self.conv1(x)))
        x = functional.max_pool2d(x, 3, 2, 1)
        for number in range(1, 5):
            x = getattr(self, f"filter{number}")(x)
        x = self.collapse.conv(x).squeeze(2)  # (batch, channels, steps)
        x = functional.avg_pool1d(x, self.steps)
        return self.output.dense(torch.relu(self.fco.dense(x)))  # (batch, classes, segments)

"""The official architectures in PyTorch, written anew: state dicts of the official names, and what they draw.

Needs PyTorch alone. With the recorded weights of tests/testdata/golden these draw the recorded outputs of the official
code, bit by bit (StyleGAN2: within 4e-7).
"""

from __future__ import annotations

import functools
import importlib

# Not by an import: PyTorch is in no environment of this package, and in none of its lists of requirements.
torch = importlib.import_module("torch")
nn, functional = torch.nn, torch.nn.functional
_LEAK, _GAIN = 0.2, 2**0.5


class Blur(nn.Module):
    """Depthwise [1,2,1] with stride 2, or [1,3,3,1] upsampling by 2; the kernel is a buffer called filt."""

    def __init__(self, channels: int, up: bool) -> None:
        super().__init__()
        row = torch.tensor([1.0, 3.0, 3.0, 1.0] if up else [1.0, 2.0, 1.0])
        kernel = torch.outer(row, row)
        self.up = up
        self.register_buffer("filt", (kernel / kernel.sum() * (4 if up else 1)).repeat(channels, 1, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        channels = pixels.shape[1]
        if not self.up:
            return functional.conv2d(functional.pad(pixels, [1] * 4, "reflect"), self.filt, stride=2, groups=channels)
        padded = functional.pad(pixels, [1] * 4, "replicate")
        return functional.conv_transpose2d(padded, self.filt, stride=2, padding=2, groups=channels)[:, :, 1:-1, 1:-1]


def norm_of(kind: str, recorded: bool = False) -> object:
    """A function that makes the norm for so many channels."""
    return {"instance": functools.partial(nn.InstanceNorm2d, affine=False, track_running_stats=recorded),
            "batch": nn.BatchNorm2d, "none": lambda channels: nn.Identity()}[kind]


class Block(nn.Module):
    """The residual block; with a place for dropout if asked for."""

    def __init__(self, channels: int, norm: object, bias: bool, dropout: bool) -> None:
        super().__init__()

        def half() -> list[nn.Module]:
            return [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias), norm(channels)]

        self.conv_block = nn.Sequential(*half(), nn.ReLU(), *([nn.Dropout(0.5)] if dropout else []), *half())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels + self.conv_block(pixels)


class ResnetGenerator(nn.Module):
    """That of CUT and CycleGAN."""

    def __init__(self, ngf: int, blocks: int, norm: str = "instance", down: bool = True, up: bool = True,
                 dropout: bool = False, recorded: bool = False) -> None:
        super().__init__()
        make_norm, bias, width = norm_of(norm, recorded), norm == "instance", ngf
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7, bias=bias), make_norm(width), nn.ReLU()]
        for _ in range(2):
            layers += [nn.Conv2d(width, 2 * width, 3, 1 if down else 2, 1, bias=bias), make_norm(2 * width), nn.ReLU()]
            layers += [Blur(2 * width, up=False)] if down else []
            width *= 2
        layers += [Block(width, make_norm, bias, dropout) for _ in range(blocks)]
        for _ in range(2):
            half = width // 2
            layers += [Blur(width, up=True), nn.Conv2d(width, half, 3, 1, 1, bias=bias)] if up else [
                nn.ConvTranspose2d(width, half, 3, 2, 1, 1, bias=bias)]
            layers += [make_norm(half), nn.ReLU()]
            width = half
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model(pixels)


class PatchDiscriminator(nn.Module):
    """That of CUT and CycleGAN."""

    def __init__(self, ndf: int, layers: int = 3, norm: str = "instance", down: bool = True) -> None:
        super().__init__()
        make_norm, bias = norm_of(norm), norm == "instance"
        parts, width = [], 3
        for number in range(layers + 1):
            wider, strided = ndf * min(2**number, 8), number < layers
            stride = 2 if strided and not down else 1
            parts += [nn.Conv2d(width, wider, 4, stride, 1, bias=bias or not number)]
            parts += [make_norm(wider)] if number else []
            parts += [nn.LeakyReLU(_LEAK), *([Blur(wider, up=False)] if strided and down else [])]
            width = wider
        self.model = nn.Sequential(*parts, nn.Conv2d(width, 1, 4, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model(pixels)


class PatchProjector(nn.Module):
    """An MLP for the vectors of each feature."""

    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        for index, inputs in enumerate(channels):
            setattr(self, f"mlp_{index}", nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width)))


# ---- StyleGAN2 as SinCUT has it -----------------------------------------------------------------------------------


class Kernel(nn.Module):
    """[1,3,3,1] after zeros on all sides."""

    def __init__(self, padding: int, scale: float = 1.0) -> None:
        super().__init__()
        row = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.padding = padding
        self.register_buffer("kernel", torch.outer(row, row) / 64 * scale)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        channels = pixels.shape[1]
        padded = functional.pad(pixels, [self.padding] * 4)
        return functional.conv2d(padded, self.kernel.repeat(channels, 1, 1, 1), groups=channels)


class Equalised(nn.Module):
    """A convolution without bias whose weights are scaled as they are used."""

    def __init__(self, inputs: int, outputs: int, side: int, down: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, side, side))
        self.stride, self.padding = (2, 0) if down else (1, side // 2)
        self.scale = (inputs * side**2) ** -0.5

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(pixels, self.weight * self.scale, stride=self.stride, padding=self.padding)


class Activation(nn.Module):
    """sqrt(2) leaky_relu(x + bias)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(1, channels, 1, 1) * 0.1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return _GAIN * functional.leaky_relu(pixels + self.bias, _LEAK)


def layer(inputs: int, outputs: int, side: int, down: bool = False, active: bool = True) -> nn.Sequential:
    """Blur before downsampling, convolution, activation."""
    return nn.Sequential(*([Kernel((side + 1) // 2)] if down else []), Equalised(inputs, outputs, side, down),
                         *([Activation(outputs)] if active else []))


class EqualisedBlock(nn.Module):
    """The residual block of StyleGAN2."""

    def __init__(self, inputs: int, outputs: int, down: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2 = layer(inputs, inputs, 3), layer(inputs, outputs, 3, down)
        self.skip = layer(inputs, outputs, 1, True, active=False) if down else nn.Identity()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return (self.conv2(self.conv1(pixels)) + self.skip(pixels)) / _GAIN


class Modulated(nn.Module):
    """The demodulated transposed convolution, and the blur after it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, 3, 3))
        self.blur = Kernel(1, 4.0)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        weight = self.weight[0] * (self.weight.shape[2] * 9) ** -0.5
        weight = weight * torch.rsqrt(weight.pow(2).sum([1, 2, 3], keepdim=True) + 1e-8)
        return self.blur(functional.conv_transpose2d(pixels, weight.transpose(0, 1), stride=2))


class Noise(nn.Module):
    """Its strength; inference here adds none, the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1) * 0.1)


class Styled(nn.Module):
    """Modulated convolution, noise, activation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.noise, self.activate = Modulated(inputs, outputs), Noise(), Activation(outputs)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.activate(self.conv(pixels))


class Convolutions(nn.Module):
    """A sequence called convs."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.convs = nn.Sequential(*layers)


class StyleGAN2Generator(nn.Module):
    """That of SinCUT, without noise, with so many channels at each resolution."""

    def __init__(self, widths: list[int], blocks: int) -> None:
        super().__init__()
        downs = [EqualisedBlock(*pair, True) for pair in zip(widths, widths[1:])]
        ups = [Styled(*pair) for pair in zip(widths[::-1], widths[-2::-1])]
        same = [[EqualisedBlock(widths[-1], widths[-1]) for _ in range(blocks // 2)] for _ in range(2)]
        self.encoder = Convolutions(nn.Identity(), layer(3, widths[0], 1), *downs, *same[0])
        self.decoder = Convolutions(*same[1], *ups, layer(widths[0], 3, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.decoder.convs(self.encoder.convs(pixels))


class EqualisedLinear(nn.Module):
    """A fully connected layer of StyleGAN2."""

    def __init__(self, inputs: int, outputs: int, active: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.randn(outputs) * 0.1)
        self.active = active

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        result = functional.linear(vectors, self.weight * self.weight.shape[1] ** -0.5, self.bias)
        return _GAIN * functional.leaky_relu(result, _LEAK) if self.active else result


class StyleGAN2Discriminator(Convolutions):
    """That of SinCUT, with so many channels from its input's resolution down to 4x4."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__(layer(3, widths[0], 1), *(EqualisedBlock(*pair, True) for pair in zip(widths, widths[1:])))
        self.final_conv = layer(widths[-1], widths[-1], 3)
        self.final_linear = nn.Sequential(EqualisedLinear(16 * widths[-1], widths[-1], True),
                                          EqualisedLinear(widths[-1], 1, False))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.final_linear(self.final_conv(self.convs(pixels)).flatten(1))

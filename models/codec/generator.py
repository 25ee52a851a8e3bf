"""The face generator: style vectors in, an aligned face out.

MobileStyleGAN (Belousov, 2021, arXiv 2104.04767) in torch: demodulation-free depthwise-separable styled convolutions,
and inverse Haar transforms in place of upsampling. Everything runs channels-last, and the channels before each Haar
step are stored band by band (all LL first, then LH, HL, HH), which makes that step four contiguous writes.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STYLES = 23  # the first convolution, three a level (Haar step, two convolutions), the 512 px head
STYLE_SIZE = 512
LEVELS = 7
CHANNELS = (512, 512, 512, 512, 512, 256, 128, 64)  # after the first convolution, and after each level
SIZES = (128, 256, 512)  # px for which there is a head


def haar_up(bands: Tensor) -> Tensor:
    """Inverse Haar transform of (B, 4C, H, W), band-major (LL, LH, HL, HH), to (B, C, 2H, 2W).

    The factor 1/2 is in the styles.
    """
    batch, channels, height, width = bands.shape
    bands = bands.permute(0, 2, 3, 1)
    ll, lh, hl, hh = bands.split(channels // 4, dim=-1)
    top, bottom, left, right = ll + lh, ll - lh, hl + hh, hl - hh
    if torch.is_grad_enabled():
        quads = torch.stack([top + left, top - left, bottom + right, bottom - right], dim=3)
        quads = quads.view(batch, height, width, 2, 2, channels // 4).transpose(2, 3)
        return quads.reshape(batch, 2 * height, 2 * width, channels // 4).permute(0, 3, 1, 2)
    found = bands.new_empty(batch, height, 2, width, 2, channels // 4)  # written in place: two copies less
    for y, (whole, half) in enumerate(((top, left), (bottom, right))):
        torch.add(whole, half, out=found[:, :, y, :, 0])
        torch.sub(whole, half, out=found[:, :, y, :, 1])
    return found.view(batch, 2 * height, 2 * width, channels // 4).permute(0, 3, 1, 2)


class Style(nn.Linear):
    """(B, 512) to one factor a channel, (B, C, 1, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__(STYLE_SIZE, channels)

    def forward(self, w: Tensor) -> Tensor:
        return super().forward(w)[:, :, None, None]


class StyledConv(nn.Module):
    """Style, depthwise 3x3 (a full 3x3 where `full`), pointwise 1x1, fixed noise, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int, full: bool = False) -> None:
        super().__init__()
        self.style = Style(inputs)
        self.depthwise = None if full else nn.Parameter(torch.empty(inputs, 1, 3, 3))
        self.pointwise = nn.Parameter(
            torch.empty(outputs, inputs, 3, 3) if full else torch.empty(outputs, inputs, 1, 1)
        )
        self.bias = nn.Parameter(torch.empty(outputs))
        self.noise: Tensor
        self.register_buffer("noise", torch.empty(1, 1, size, size))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.style(w)
        if self.depthwise is None:
            x = F.conv2d(x * style, self.pointwise, self.bias, padding=1)
        elif torch.is_grad_enabled() or len(x) > 1:
            x = F.conv2d(x * style, self.depthwise, padding=1, groups=x.shape[1])
            x = F.conv2d(x, self.pointwise, self.bias)
        else:  # of one face the style goes into the weights, which are fewer than the features
            x = F.conv2d(x, self.depthwise * style.view(-1, 1, 1, 1), padding=1, groups=x.shape[1])
            x = F.conv2d(x, self.pointwise, self.bias)
        if torch.is_grad_enabled():
            return F.leaky_relu(x + self.noise, 0.2)
        return F.leaky_relu_(x.add_(self.noise), 0.2)


class Head(nn.Module):
    """Features of one level to RGB: linear; where `hidden`, a small convolution and a colour matrix from w after it."""

    def __init__(self, channels: int, hidden: int = 0) -> None:
        super().__init__()
        self.style = Style(channels)
        self.weight, self.bias = nn.Parameter(torch.empty(3, channels, 1, 1)), nn.Parameter(torch.empty(3))
        self.detail = self.colour = None
        if hidden:
            self.detail = nn.Sequential(
                nn.Conv2d(channels, hidden, 1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
                nn.Conv2d(hidden, hidden, 1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(hidden, 3, 1),
            )
            self.colour = nn.Linear(STYLE_SIZE, 12)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = x * self.style(w)
        rgb = F.conv2d(x, self.weight, self.bias)
        if self.detail is None or self.colour is None:
            return rgb
        rgb = rgb + self.detail(x)
        matrix, shift = self.colour(w).split((9, 3), 1)  # the levels left out change the colours most of all
        return rgb + torch.einsum("bij,bjhw->bihw", matrix.view(-1, 3, 3), rgb) + shift[:, :, None, None]


class Generator(nn.Module):
    """Style vectors to a face. levels[i] works at 8 * 2**i pixels; a head at 128, 256 and 512 ends the way early."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.empty(1, CHANNELS[0], 4, 4))
        self.first = StyledConv(CHANNELS[0], CHANNELS[0], 4, full=True)
        self.up = nn.ModuleList(Style(CHANNELS[i]) for i in range(LEVELS))
        self.levels = nn.ModuleList(
            nn.ModuleList(
                [
                    StyledConv(CHANNELS[i] // 4, CHANNELS[i + 1], 8 << i),
                    StyledConv(CHANNELS[i + 1], CHANNELS[i + 1], 8 << i),
                ]
            )
            for i in range(LEVELS)
        )
        self.heads = nn.ModuleDict(
            {str(8 << i): Head(CHANNELS[i + 1], 0 if 8 << i == 512 else 64) for i in range(LEVELS) if 8 << i in SIZES}
        )

    def forward(self, w: Tensor, size: int = 512, added: Mapping[int, Tensor] | None = None) -> Tensor:
        """w (B, 512), or (B, 23, 512) one vector a style, to RGB (B, 3, size, size), about -1 to 1; size: of SIZES.

        added: (B, C, px, px) by px, added to the features of the level that works at px pixels.
        """
        if size not in SIZES:
            raise ValueError(f"size must be one of {SIZES}, not {size}")
        if w.dim() == 2:
            w = w[:, None].expand(-1, STYLES, -1)
        found: Tensor = self.heads[str(size)](self.features(w, size, added), w[:, -1])
        return found

    def features(self, w: Tensor, size: int, added: Mapping[int, Tensor] | None = None) -> Tensor:
        """w (B, 23, 512) to the features (B, C, size, size) of the level that works at size px; added: as above."""
        x = self.start.expand(len(w), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        x = self.first(x, w[:, 0])
        for i, (up, level) in enumerate(zip(self.up, self.levels, strict=True)):
            x = haar_up(x * up(w[:, 1 + 3 * i]))
            for j, conv in enumerate(level):  # type: ignore[arg-type, var-annotated]  # torch: any Module
                x = conv(x, w[:, 2 + 3 * i + j])
            if added and 8 << i in added:
                x = x + added[8 << i]
            if 8 << i == size:
                break
        return x

"""What a photo's colours mean, decided in one place: to sRGB as browsers show it, or an ImageError.

An ICC profile counts first, then code points (CICP, ITU-T H.273), then PNG's gAMA and cHRM; without any of them a photo
is in sRGB. PQ and HLG (ITU-R BT.2100) are brighter than sRGB can show: they are tone-mapped by the curve of ITU-R
BT.2390, section 5.4.1, on the brightest channel of a pixel, so that its hue stays; what is outside sRGB is cut.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from mien.models.errors import ImageError

Floats = npt.NDArray[np.float64]
Chromaticities = tuple[float, ...]

_REFERENCE_WHITE = 203.0  # cd/m2: what sRGB's white is in HDR (ITU-R BT.2408, table 1)
_PEAK = 1000.0  # cd/m2: what HDR photos are graded for; HLG is defined by it (BT.2100, table 5)
_PIXELS_AT_ONCE = 1 << 20  # pixels that are converted at once, so that floats of large photos do not fill the memory

_D65 = (0.3127, 0.3290)
_BT709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *_D65)
# x and y of red, green, blue and white by H.273's table 2; 2 is "unspecified"
_PRIMARIES: dict[int, Chromaticities] = {
    1: _BT709,
    2: _BT709,
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, 0.310, 0.316),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *_D65),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65),
    22: (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *_D65),
}
# H.273's table 3: what browsers show as sRGB, BT.709 and its kin included; powers; linear
_SRGB_TRANSFERS = {1, 2, 6, 13, 14, 15}
_POWERS = {4: 2.2, 5: 2.8, 8: 1.0}
_PQ, _HLG = 16, 18

_PROBE = np.mgrid[0:256:15, 0:256:15, 0:256:15].transpose(1, 2, 3, 0).reshape(18, 324, 3).astype(np.uint8)
PROFILE_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}


@dataclass(frozen=True)
class Colours:
    """What a file says of its colours. icc: a profile. cicp: code points of the primaries and the transfer function.
    gamma: the exponent from a value to light, as 2.2. chromaticities: x and y of red, green, blue and white. Empty or
    None where it says nothing."""

    icc: bytes = b""
    cicp: tuple[int, int] | None = None
    gamma: float | None = None
    chromaticities: Chromaticities | None = None


def to_srgb(image: Image.Image, colours: Colours) -> Image.Image:
    """The image in sRGB, mode RGB. image: L, RGB, CMYK or LAB.

    A profile that is broken or made for other colours than the image has says nothing. ImageError for code points that
    are not known."""
    converted = _by_profile(image, colours.icc) if colours.icc else None
    if converted is not None:
        return converted
    if image.mode == "LAB":
        return _transformed(image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"))
    rgb = image.convert("RGB")
    if image.mode == "CMYK":
        return rgb
    if colours.cicp:
        primaries, transfer = colours.cicp
        if primaries not in _PRIMARIES:
            raise ImageError(f"the colours are in primaries {primaries} of CICP, which are not supported")
        matrix = _to_bt709(_PRIMARIES[primaries])
        if transfer in (_PQ, _HLG):
            displayed = _pq_light if transfer == _PQ else _hlg_light(_PRIMARIES[primaries])
            return _mapped(rgb, lambda values: _tone_mapped(displayed(values)) @ matrix.T)
        if transfer in _SRGB_TRANSFERS:
            return _converted(rgb, _srgb_to_light(_CODES), matrix)
        if transfer in _POWERS:
            return _converted(rgb, _CODES ** _POWERS[transfer], matrix)
        raise ImageError(f"the colours are in transfer function {transfer} of CICP, which is not supported")
    if colours.gamma or colours.chromaticities:
        light = _CODES**colours.gamma if colours.gamma else _srgb_to_light(_CODES)
        return _converted(rgb, light, _to_bt709(colours.chromaticities or _BT709))
    return rgb


def _by_profile(image: Image.Image, icc: bytes) -> Image.Image | None:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = profile.profile.xcolor_space.strip()
        source = image.convert("RGB") if image.mode == "L" and space == "RGB" else image
        if space == PROFILE_SPACES[source.mode]:
            return _transformed(source, profile, ImageCms.createProfile("sRGB"))
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        pass
    return None


def _transformed(
    image: Image.Image, profile: ImageCms._CmsProfileCompatible, srgb: ImageCms._CmsProfileCompatible
) -> Image.Image:
    """By relative colorimetry with black point compensation, the way browsers and photo editors convert."""
    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    transform = ImageCms.buildTransform(profile, srgb, image.mode, "RGB", intent, flags=flags)
    if image.mode == "RGB":
        # most photos are in sRGB and say so by a profile: 0.4 s saved on 8 megapixels
        probe = Image.fromarray(_PROBE)
        if np.array_equal(np.asarray(transform.apply(probe)), _PROBE):
            return image
    return transform.apply(image)


def _srgb_to_light(values: Floats) -> Floats:
    """IEC 61966-2-1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _light_to_srgb(light: Floats) -> Floats:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)


_CODES: Floats = np.arange(256) / 255
# sRGB's codes of light in steps of 1/65535; a step is at most 1/20 of a code
_ENCODED = np.rint(255 * _light_to_srgb(np.arange(65536) / 65535)).astype(np.uint8)


def _to_bt709(chromaticities: Chromaticities) -> Floats:
    """(3, 3): from light in these primaries to light in sRGB's, white to white by Bradford's adaptation, as in ICC
    profiles; the identity for primaries that span no colours."""
    try:
        source, target = _to_xyz(chromaticities), _to_xyz(_BT709)
        bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
        cones = (bradford @ target.sum(1)) / (bradford @ source.sum(1))
        matrix = np.linalg.inv(target) @ np.linalg.inv(bradford) @ np.diag(cones) @ bradford @ source
    except (np.linalg.LinAlgError, ZeroDivisionError):
        return np.eye(3)
    return matrix if np.isfinite(matrix).all() and np.abs(matrix).max() < 100 else np.eye(3)


def _to_xyz(chromaticities: Chromaticities) -> Floats:
    """(3, 3): from light in these primaries to XYZ, white at Y = 1."""
    points = np.array(
        [(x / y, 1, (1 - x - y) / y) for x, y in zip(chromaticities[::2], chromaticities[1::2], strict=True)]
    )
    return points[:3].T * np.linalg.solve(points[:3].T, points[3])


def _converted(rgb: Image.Image, light: Floats, matrix: Floats) -> Image.Image:
    """light: (256,) of each code, 0 to 1. matrix: (3, 3) to sRGB's primaries."""
    if np.abs(matrix - np.eye(3)).max() < 1e-3:
        codes = np.rint(255 * _light_to_srgb(light)).astype(int).tolist()
        return rgb if codes == list(range(256)) else rgb.point(codes * 3)
    table = light.astype(np.float32)
    transposed = matrix.T.astype(np.float32)
    return _mapped(rgb, lambda values: table[values] @ transposed)


def _mapped(rgb: Image.Image, to_light: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.floating]]) -> Image.Image:
    """to_light: from (h, w, 3) uint8 codes to the light of sRGB, which is cut to 0..1 and coded."""
    pixels = np.asarray(rgb)
    result = np.empty_like(pixels)
    rows = max(1, _PIXELS_AT_ONCE // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        light = np.clip(to_light(pixels[top : top + rows]), 0, 1)
        result[top : top + rows] = _ENCODED[np.rint(light * 65535).astype(np.uint16)]
    return Image.fromarray(result)


def _pq_to_nits(values: Floats) -> Floats:
    """BT.2100, table 4: the EOTF of PQ; values 0 to 1, light in cd/m2."""
    power = values ** (1 / 78.84375)
    return 10000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)


def _nits_to_pq(nits: Floats) -> Floats:
    power = (nits / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def _pq_light(codes: npt.NDArray[np.uint8]) -> Floats:
    return _PQ_NITS[codes]


def _hlg_light(chromaticities: Chromaticities) -> Callable[[npt.NDArray[np.uint8]], Floats]:
    """BT.2100, table 5: the inverse OETF and the OOTF of a display of _PEAK cd/m2, whose gamma is 1.2."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(_CODES <= 0.5, _CODES**2 / 3, (np.exp((_CODES - c) / a) + b) / 12)
    luminance = _to_xyz(chromaticities)[1]

    def light(codes: npt.NDArray[np.uint8]) -> Floats:
        values = scene[codes]
        return _PEAK * values * (values @ luminance)[..., None] ** 0.2

    return light


def _tone_mapped(nits: Floats) -> Floats:
    """(..., 3) light in cd/m2 to light of which 1 is white."""
    brightest = nits.max(-1, keepdims=True)
    gain = np.interp(brightest, _CURVE_IN, _CURVE_OUT) / np.maximum(brightest, 1e-6)
    return nits * gain / _REFERENCE_WHITE


def _curve(nits: Floats) -> Floats:
    """BT.2390, section 5.4.1, from _PEAK to _REFERENCE_WHITE, both without a raised black."""
    peak = _nits_to_pq(np.array(_PEAK))
    top = _nits_to_pq(np.array(_REFERENCE_WHITE)) / peak
    knee = 1.5 * top - 0.5
    value = np.minimum(_nits_to_pq(nits) / peak, 1)
    t = (value - knee) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * top
    return _pq_to_nits(np.where(value < knee, value, spline) * peak)


_PQ_NITS = _pq_to_nits(_CODES)
_CURVE_IN = _pq_to_nits(np.linspace(0, 1, 4096))
_CURVE_OUT = _curve(_CURVE_IN)

"""Tone mapping of HDR pictures (PQ and HLG) to SDR, by one table per transfer function and set of primaries.

Sources: SMPTE ST 2084 (PQ), ITU-R BT.2100 (HLG on a display of 1000 cd/m²), BT.2408 (white at 203 cd/m²), BT.2087 (BT.2020 to BT.709), IEC
61966-2-1 (sRGB). The curve above the knee is our choice.
"""

from functools import cache
from typing import TypeVar, cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc
from numpy.typing import NDArray
from PIL import Image

PIXEL_FORMAT = "gbrp10le"
"""The planes that `tone_mapped` takes; the scaler makes them in half the time of 8-bit RGB."""
_NAMES = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}
_WHITE_NITS, _HLG_PEAK_NITS, _PQ_PEAK_NITS = 203, 1000, 10_000
_HLG_GAMMA = 1.2  # of a display of 1000 cd/m²
# Light is kept up to 75 % of white. White becomes 241 of 255, which leaves room to tell highlights apart (1000 cd/m² becomes 254).
_KNEE = 0.75
_BT2020_TO_BT709 = ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187))
_P3_TO_BT709 = ((1.2249, -0.2249, 0.0), (-0.0420, 1.0420, 0.0), (-0.0196, -0.0786, 1.0983))
_LUMA = {ColorPrimaries.BT709: (0.2126, 0.7152, 0.0722), ColorPrimaries.SMPTE432: (0.2290, 0.6917, 0.0793)}
_BT2020_LUMA = (0.2627, 0.6780, 0.0593)
# Per channel of the table: 8 MiB, made once in about 0.1 s. Colours of BT.709 are off by 1 of 255 on average, and by 10 in one of 100.
_BITS = 7
_LEVELS = 1 << _BITS
_HIGHLIGHTS = 0.35  # share of the levels that are even steps of the code: keeps some for highlights, which look almost alike as greys
_Floats = NDArray[np.float32]
_Real = TypeVar("_Real", np.float32, np.float64)


def transfer(frame: VideoFrame) -> str | None:
    """The frame's HDR transfer function, "PQ" or "HLG"; None for SDR."""
    return _NAMES.get(cast("ColorTrc", frame.color_trc))


def tone_mapped(planes: VideoFrame, trc: int, primaries: int) -> Image.Image:
    """SDR picture of full-range planes in `PIXEL_FORMAT`. Unspecified primaries are read as those of BT.2020, as HDR standards require."""
    places = _places(trc)
    green, blue, red = (np.frombuffer(cast("bytes", plane), np.uint16).reshape(plane.height, -1)[:, : plane.width] for plane in planes.planes)
    index = places[0].take(red, mode="clip")
    index |= places[1].take(green, mode="clip")
    index |= places[2].take(blue, mode="clip")
    shown = _table(trc, primaries).take(index, mode="clip")
    return Image.frombytes("RGB", (planes.width, planes.height), shown.tobytes(), "raw", "RGBX", 0, 1)


@cache
def _table(trc: int, primaries: int) -> NDArray[np.uint32]:
    """By the three channels' levels: the sRGB colour, four bytes each."""
    levels = _light_of_levels(trc)
    blue = np.repeat(levels[None], _LEVELS, 0).ravel()
    green = np.repeat(levels, _LEVELS)
    shown = np.empty((_LEVELS, _LEVELS * _LEVELS, 4), np.uint8)
    shown[:, :, 3] = 255
    for number, red in enumerate(levels.tolist()):
        shown[number, :, :3] = _shown(np.stack([np.full_like(green, red), green, blue]), trc, primaries).T
    return shown.reshape(-1, 4).view(np.uint32).ravel()


@cache
def _places(trc: int) -> NDArray[np.uint32]:
    """For red, green and blue, by the 10-bit code: its level's place in the table's index."""
    level = (_spaced(np.linspace(0, 1, 1024), trc) * (_LEVELS - 1)).round().astype(np.uint32)
    return np.stack([level << 2 * _BITS, level << _BITS, level])


def _light_of_levels(trc: int) -> _Floats:
    codes = np.linspace(0, 1, 1 << 16)
    return np.interp(np.linspace(0, 1, _LEVELS), _spaced(codes, trc), _light(codes, trc)).astype(np.float32)


def _spaced(code: NDArray[np.float64], trc: int) -> NDArray[np.float64]:
    """Of codes from 0 to 1, a number from 0 to 1 in whose even steps the levels lie: mostly those of the grey that is shown."""
    grey = _grey(_light(code, trc), trc)
    return np.asarray(_HIGHLIGHTS * code + (1 - _HIGHLIGHTS) * grey / grey[-1])


def _light(code: NDArray[np.float64], trc: int) -> NDArray[np.float64]:
    """Of codes from 0 to 1: for PQ the light relative to white, for HLG the scene's from 0 to 1."""
    if trc == ColorTrc.SMPTE2084:
        root = code ** (1 / 78.84375)
        return np.asarray((np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125) * _PQ_PEAK_NITS / _WHITE_NITS)
    return np.asarray(np.where(code <= 0.5, code**2 / 3, (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12))


def _grey(light: NDArray[np.float64], trc: int) -> NDArray[np.float64]:
    """The sRGB code from 0 to 1 of a grey with this light."""
    if trc == ColorTrc.ARIB_STD_B67:
        light = light**_HLG_GAMMA * _HLG_PEAK_NITS / _WHITE_NITS
    return _srgb(_kept(light))


def _shown(light: _Floats, trc: int, primaries: int) -> NDArray[np.uint8]:
    """The sRGB codes of light, both of shape (3, pixels)."""
    if trc == ColorTrc.ARIB_STD_B67:
        weights = np.array(_LUMA.get(cast("ColorPrimaries", primaries), _BT2020_LUMA), np.float32)
        light = light * ((weights @ light) ** np.float32(_HLG_GAMMA - 1) * np.float32(_HLG_PEAK_NITS / _WHITE_NITS))
    to_bt709 = _matrix(primaries)
    light = np.maximum(light if to_bt709 is None else to_bt709 @ light, 0)  # below 0: colours outside BT.709
    # One factor for the three channels keeps the hue.
    brightest = np.maximum(light.max(axis=0), np.float32(1e-6))
    light *= _kept(brightest) / brightest
    return (_srgb(light) * 255).round().astype(np.uint8)


def _matrix(primaries: int) -> _Floats | None:
    if primaries == ColorPrimaries.BT709:
        return None
    return np.array(_P3_TO_BT709 if primaries == ColorPrimaries.SMPTE432 else _BT2020_TO_BT709, np.float32)


def _kept(light: NDArray[_Real]) -> NDArray[_Real]:
    """The light that is shown, from 0 to 1: extended Reinhard above the knee."""
    peak = _PQ_PEAK_NITS / _WHITE_NITS
    over, most = np.maximum(light - _KNEE, 0) / (1 - _KNEE), (peak - _KNEE) / (1 - _KNEE)
    return np.where(light > _KNEE, _KNEE + (1 - _KNEE) * over * (1 + over / most**2) / (1 + over), light)


def _srgb(light: NDArray[_Real]) -> NDArray[_Real]:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)

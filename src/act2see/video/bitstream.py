"""Bitstream parsing for decode planning: entry points and hidden pictures, without decoding.

Sources: ITU-T H.264 (7.3, Annexes B and D), ITU-T H.265 (7.3.1, 7.4.2), ISO/IEC 14496-15 (5.3.3), ISO/IEC 13818-2 (6.2.2), RFC 6386 (9.1),
the VP9 bitstream specification (6.2, Annex B).
"""

from collections.abc import Iterator

ENTRY = 1
"""Decoding can start here: no picture presented after this one references an earlier one."""
HIDDEN = 2
"""Decoded as a reference only, never presented."""

_UNITS = {"h264", "hevc"}
_BY_KEY_FLAG = {"av1", "mpeg4", "mjpeg", "prores", "dnxhd", "rawvideo", "ffv1"}
_KNOWN = _UNITS | _BY_KEY_FLAG | {"vp8", "vp9", "mpeg1video", "mpeg2video"}
# Decoders with per-packet `skip_frame`, to skip pictures that no other picture references.
_SKIPPING = {"h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video"}
_MIN_SPS_BYTES = 5  # of an H.264 sequence parameter set: header, profile, constraints, level, and one byte of fields
_HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}


class Scanner:
    """Parses a stream's packets in decoding order.

    `doubt` is the reason why the packets do not allow a decode plan; None if they do. `skips`: whether non-reference pictures can be skipped.
    """

    def __init__(self, codec: str, extradata: bytes) -> None:
        self.codec = codec
        self.doubt = None if codec in _KNOWN else f"the frame dependencies of {codec} are not known"
        self.skips = codec in _SKIPPING
        self._extradata = extradata
        self._length_size = _length_size(codec, extradata)
        self._parameters: set[bytes] = set()
        self._is_first = True
        if codec == "h264":
            for unit in _first_parameters(extradata, self._length_size):
                self._check_fields(unit)

    def read(self, data: bytes, is_key: bool) -> int:
        """The flags of the next packet: `ENTRY`, `HIDDEN`, both or none."""
        match self.codec:
            case "h264" | "hevc":
                try:
                    marks = self._read_units(data)
                except (ValueError, IndexError):
                    self.doubt = self.doubt or "a packet is damaged"
                    marks = 0
            case "vp8":
                marks = (0 if data[0] & 1 else ENTRY) | (0 if data[0] & 16 else HIDDEN)
            case "vp9":
                marks = _read_vp9(data)
            case "mpeg1video" | "mpeg2video":
                marks = ENTRY if b"\0\0\1\xb3" in data[:128] else 0  # only a sequence header resets earlier decoder state
            case _:
                marks = ENTRY
        self._is_first = False
        return marks if is_key else marks & ~ENTRY

    def _read_units(self, data: bytes) -> int:
        marks = 0
        for unit in _units(data, self._length_size):
            if self.codec == "h264":
                kind = unit[0] & 31
                if kind in (7, 8):
                    self._check_parameters(unit)
                elif kind == 5 or (kind == 6 and _recovers_at_once(unit)):
                    marks |= ENTRY
            else:
                kind = unit[0] >> 1 & 63
                if kind in (32, 33, 34):
                    self._check_parameters(unit)
                elif kind < 32:
                    marks |= ENTRY if 16 <= kind <= 21 else 0
                    # In a lower temporal layer, "non-reference" only applies within that layer.
                    self.skips = self.skips and unit[1] & 7 == 1
        return marks

    def _check_parameters(self, unit: bytes) -> None:
        if unit in self._parameters:
            return
        self._parameters.add(unit)
        if not self._is_first and unit not in self._extradata:
            self.doubt = self.doubt or "the decoder parameters change mid-stream"
        self._check_fields(unit)

    def _check_fields(self, unit: bytes) -> None:
        if self.codec != "h264" or unit[0] & 31 != 7:
            return
        # Of an interlaced picture, only one field may be a reference. A truncated parameter set does not tell whether there are fields.
        if len(unit) < _MIN_SPS_BYTES or not _is_frame_only(unit):
            self.skips = False


def _length_size(codec: str, extradata: bytes) -> int:
    """Size in bytes of the length prefix of each NAL unit; 0 if units are separated by start codes."""
    place = {"h264": 4, "hevc": 21}.get(codec)
    if place is None or len(extradata) <= place or extradata[0] != 1:
        return 0
    return (extradata[place] & 3) + 1


def _first_parameters(extradata: bytes, length_size: int) -> list[bytes]:
    """The first H.264 parameter set in a file's header."""
    if not length_size:
        return [unit for unit in _units(extradata, 0) if unit]
    size = int.from_bytes(extradata[6:8], "big")
    return [unit] if (unit := extradata[8 : 8 + size]) else []


def _units(data: bytes, length_size: int) -> Iterator[bytes]:
    """The NAL units of a packet. Raises `ValueError` for invalid lengths."""
    if length_size:
        place = 0
        while place < len(data):
            start = place + length_size
            place = start + int.from_bytes(data[place:start], "big")
            if start >= place or place > len(data):
                raise ValueError("a unit's length is wrong")
            yield data[start:place]
        return
    start = data.find(b"\0\0\1") + 3
    while start > 2:
        following = data.find(b"\0\0\1", start)
        unit = data[start : following if following >= 0 else None].rstrip(b"\0")
        if unit:
            yield unit
        start = following + 3


def _unescaped(unit: bytes) -> bytes:
    """The beginning of a unit, without emulation prevention bytes."""
    return unit[:1024].replace(b"\0\0\3", b"\0\0")


def _recovers_at_once(unit: bytes) -> bool:
    """Whether an H.264 SEI unit signals an exact recovery point with recovery_frame_cnt 0: output is correct from this picture on."""
    unit = _unescaped(unit)
    place = 1
    while place + 2 < len(unit):
        numbers = []
        for _ in range(2):  # the payload's type, then its size
            number = 0
            while place < len(unit) and unit[place] == 255:
                number += 255
                place += 1
            number += unit[place] if place < len(unit) else 0
            place += 1
            numbers.append(number)
        kind, size = numbers
        if kind == 6:
            return place < len(unit) and unit[place] & 0xC0 == 0xC0  # ue(0), then exact_match_flag
        place += size
    return False


def _is_frame_only(unit: bytes) -> bool:
    """An H.264 sequence parameter set's frame_mbs_only_flag."""
    bits = _Bits(_unescaped(unit)[4:])
    bits.number()
    if unit[1] in _HIGH_PROFILES:
        chroma = bits.number()
        bits.take(1 if chroma == 3 else 0)
        bits.number()
        bits.number()
        bits.take(1)
        if bits.take(1):
            for place in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    bits.pass_scaling_list(16 if place < 6 else 64)
    bits.number()
    order = bits.number()
    if order == 0:
        bits.number()
    elif order == 1:
        bits.take(1)
        for _ in range(2):
            bits.number()
        for _ in range(min(255, bits.number())):
            bits.number()
    bits.number()
    bits.take(1)
    bits.number()
    bits.number()
    return bool(bits.take(1))


class _Bits:
    """Reads bits, most significant first; past the end it returns ones."""

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data, "big")
        self._left = len(data) * 8

    def take(self, count: int) -> int:
        value = 0
        for _ in range(count):
            self._left -= 1
            value = value * 2 + (self._bits >> self._left & 1 if self._left >= 0 else 1)
        return value

    def number(self) -> int:
        """An Exp-Golomb code, ue(v)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def pass_scaling_list(self, size: int) -> None:
        last = following = 8
        for _ in range(size):
            if following:
                code = self.number()
                change = (code + 1) // 2 * (1 if code & 1 else -1)  # se(v)
                following = (last + change) % 256
            last = following or last


def _read_vp9(data: bytes) -> int:
    first = data[0]
    if first & 0x30 == 0x30:  # profile 3 has an extra bit before the fields below
        first <<= 1
    shows_existing, is_key, is_shown = first & 8, not first & 4, first & 2
    is_superframe = data[-1] & 0xE0 == 0xC0
    hidden = 0 if shows_existing or is_shown or is_superframe else HIDDEN
    return hidden | (ENTRY if is_key and not shows_existing else 0)

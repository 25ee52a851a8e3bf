"""What an AV1 stream says of its colours in its sequence header: AV1 Bitstream and Decoding Process Specification."""

_SEQUENCE_HEADER = 1  # section 6.2.2


def colours_of(stream: bytes) -> tuple[int, int] | None:
    """Primaries and transfer function (ITU-T H.273); None where the first sequence header has none, or where it is not
    of a photo. IndexError where the stream is cut."""
    pos = 0
    while pos < len(stream):
        head = stream[pos]
        pos += 2 if head & 4 else 1  # an extension
        size, shift = 0, 0
        while head & 2:  # LEB128
            size |= (stream[pos] & 127) << shift
            pos, shift = pos + 1, shift + 7
            if stream[pos - 1] < 128 or shift > 28:
                break
        if not head & 2:
            size = len(stream) - pos
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            return _of_header(_Bits(stream[pos : pos + size]))
        pos += size
    return None


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data[:64], "big")  # the colours lie within the first 64 bytes
        self._left = 8 * len(data[:64])

    def take(self, count: int = 1) -> int:
        self._left -= count
        if self._left < 0:
            raise IndexError("the sequence header is cut")
        return self._value >> self._left & (1 << count) - 1


def _of_header(bits: _Bits) -> tuple[int, int] | None:
    """Section 5.5.1."""
    profile = bits.take(3)
    bits.take()  # still_picture
    reduced = bits.take()
    if reduced:
        bits.take(5)
    else:
        if bits.take():  # timing, as videos have it
            return None
        delays = bits.take()
        for _ in range(bits.take(5) + 1):
            bits.take(12)
            if bits.take(5) > 7:
                bits.take()
            if delays and bits.take():
                bits.take(4)
    width, height = bits.take(4) + 1, bits.take(4) + 1
    bits.take(width)
    bits.take(height)
    if not reduced and bits.take():  # frame numbers
        bits.take(7)
    bits.take(3)
    if not reduced:
        bits.take(4)
        ordered = bits.take()
        if ordered:
            bits.take(2)
        tools = 2 if bits.take() else bits.take()
        if tools and not bits.take():
            bits.take()
        if ordered:
            bits.take(3)
    bits.take(3)
    if bits.take() and profile == 2:  # more than 8 bits
        bits.take()
    if profile != 1:
        bits.take()
    return (bits.take(8), bits.take(8)) if bits.take() else None

"""Bits of a file with an index of counts, so that rank and select read only a few bytes.

The rank of a position is the number of ones before it; select is the inverse, the position of the k-th one or zero.
Besides the bits (lowest bit of a byte first), the file has the rank of every 512th position: 32 bits for 512, 6 %
more. (The first level of the rank directory of G. Jacobson, "Space-efficient static trees and graphs", FOCS 1989;
below it, bits are counted.)
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from embshrink.storage.arrays import BoolArray, ByteArray, Layout, StoredArray

BITS_PER_RANK = 512  # from one stored rank to the next
BYTES_PER_RANK = BITS_PER_RANK // 8


def encode_bits(bits: BoolArray) -> tuple[ByteArray, np.ndarray[tuple[int, ...], np.dtype[np.uint32]]]:
    """Lay out bits for `Bitmap`.

    Parameters
    ----------
    bits : numpy.ndarray, shape (n,), bool

    Returns
    -------
    packed : numpy.ndarray, shape (ceil(n / 8),), uint8
        The lowest bit of a byte first.
    ranks : numpy.ndarray, shape (ceil(n / 512),), uint32
        Number of ones before every 512th position.
    """
    ranks = np.searchsorted(np.flatnonzero(bits), np.arange(0, len(bits), BITS_PER_RANK))
    return np.packbits(bits, bitorder="little"), ranks.astype(np.uint32)


def plan_bits(n: int, bits: str, ranks: str) -> Layout:
    """Return dtype and shape of the arrays of `encode_bits` for n bits, under these two names."""
    return {bits: (np.dtype(np.uint8), (-(-n // 8),)), ranks: (np.dtype(np.uint32), (-(-n // BITS_PER_RANK),))}


class Bitmap:
    """Rank and select on bits of a file, without decoding them.

    Parameters
    ----------
    bits, ranks : array_like
        The arrays of `encode_bits`, mapped or not. The caller checks shapes, dtypes and results: in a damaged file
        ranks may be wrong.
    """

    def __init__(self, bits: StoredArray, ranks: StoredArray) -> None:
        self.bits, self.ranks = bits, ranks

    def bit(self, place: int) -> int:
        """Return the bit at a position."""
        byte: int = self.bits[place >> 3 : (place >> 3) + 1].item()
        return byte >> (place & 7) & 1

    def rank(self, place: int) -> tuple[int, int]:
        """Return the number of ones before a position, and the bit at that position."""
        group, inside = divmod(place, BITS_PER_RANK)
        chunk = int.from_bytes(self.bits[group * BYTES_PER_RANK : (place >> 3) + 1].tobytes(), "little")
        before = (chunk & (1 << inside) - 1).bit_count()
        return int(self.ranks[group : group + 1].item()) + before, chunk >> inside & 1

    def select(self, number: int, wanted: int) -> int:
        """Return the position of the `number`-th bit (from 0 on) that equals `wanted`; -1 if the ranks are wrong.

        Parameters
        ----------
        number : int
        wanted : {0, 1}
        """

        def before(group: int) -> int:
            rank = int(self.ranks[group : group + 1].item())
            return rank if wanted else group * BITS_PER_RANK - rank

        group = max(0, bisect_right(range(len(self.ranks)), number, key=before) - 1)
        number -= before(group)
        if number < 0:
            return -1
        place = group * BITS_PER_RANK
        for byte in self.bits[group * BYTES_PER_RANK : (group + 1) * BYTES_PER_RANK].tobytes():
            byte ^= 0 if wanted else 255
            if number < byte.bit_count():
                places = [inside for inside in range(8) if byte >> inside & 1]
                return place + places[number]
            number -= byte.bit_count()
            place += 8
        return -1

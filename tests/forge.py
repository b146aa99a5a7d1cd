"""Forged `.ems` files: taken apart, changed, and put together again with every checksum right."""

import json
import struct
import zlib

import numpy as np

from embshrink.storage.container import MAGIC

PRELUDE, FOOTER = struct.Struct("<8sHHIQII"), struct.Struct("<QII8s")
BLOCK = 1 << 20


def spans(data):
    """Return (begin, end) of each section's bytes, without padding."""
    header = json.loads(data[32 : 32 + struct.unpack_from("<I", data, 12)[0]])
    start = -(-(32 + struct.unpack_from("<I", data, 12)[0]) // 64) * 64
    sizes = [int(np.prod(entry["shape"])) * np.dtype(entry["dtype"]).itemsize for entry in header["sections"]]
    return [(start + entry["offset"], start + entry["offset"] + size)
            for entry, size in zip(header["sections"], sizes)]


def take_apart(data):
    """Return the header without its table, and the sections as arrays one may write to."""
    header = json.loads(data[32 : 32 + struct.unpack_from("<I", data, 12)[0]])
    table = header.pop("sections")
    arrays = {entry["name"]: np.frombuffer(data[begin:end], entry["dtype"]).reshape(entry["shape"]).copy()
              for entry, (begin, end) in zip(table, spans(data))}
    return header, arrays


def assemble(header, arrays, *, edit=None, text=None, gap=0, **prelude):
    """Return a file of these parts with all checksums right.

    `edit(table)` may change the section table; `text` takes the header's place; `gap` puts zeros before each section;
    `prelude` sets fields of the prelude (and of the footer) to what they should not be.
    """
    body, table = b"", []
    for name, array in arrays.items():
        raw = array.tobytes()
        body += bytes(gap)
        blocks = [zlib.crc32(raw[i : i + BLOCK]) for i in range(0, len(raw), BLOCK)]
        crc = blocks[0] if len(blocks) == 1 else zlib.crc32(struct.pack(f"<{len(blocks)}I", *blocks))
        table.append({"name": name, "dtype": array.dtype.name, "shape": list(array.shape), "offset": len(body),
                      "crc32": f"{crc:08x}"})
        body += raw + bytes(-len(raw) % 64)
    if edit is not None:
        table = edit(table) or table
    if text is None:
        text = json.dumps({**header, "sections": table}, sort_keys=True, separators=(",", ":")).encode()
    pad = bytes(-(32 + len(text)) % 64)
    fields = {"major": 1, "minor": 0, "size": len(text), "length": 32 + len(text) + len(pad) + len(body) + 24,
              "flags": 0, **prelude}
    crc = zlib.crc32(text, zlib.crc32(PRELUDE.pack(MAGIC, *fields.values(), 0)))
    return (PRELUDE.pack(MAGIC, *fields.values(), crc) + text + pad + body
            + FOOTER.pack(fields["length"], crc, 0, b"\x89EMSEND\n"))

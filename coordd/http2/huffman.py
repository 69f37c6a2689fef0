"""HPACK's Huffman code, decoding only: what coordd sends is not compressed.

The code is canonical, so the length of each symbol's code says it all: symbols of one length are numbered in
order, and each length goes on where the shorter one ended. Decoding takes four bits per step, through a table
that holds for every inner node of the code's tree what the next four bits lead to. The shortest code has five
bits, so a step yields one symbol at most.

Source of the lengths: RFC 7541, appendix B.
"""

from typing import Final

EOS: Final = 256
"""The symbol that must not occur; its first bits are the padding."""

_LENGTHS: Final = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\0$@[]~",
    14: b"^}",
    15: b"<`{",
    19: (92, 195, 208),
    20: (128, 130, 131, 162, 184, 194, 224, 226),
    21: (153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230),
    22: bytes.fromhex("81 84 85 86 88 92 9a 9c a0 a3 a4 a9 aa ad b2 b5 b9 ba bb bd be c4 c6 e4 e8 e9"),
    23: bytes.fromhex(
        "01 87 89 8a 8b 8c 8d 8f 93 95 96 97 98 9b 9d 9e a5 a6 a8 ae af b4 b6 b7 bc bf c5 e7 ef"
    ),
    24: (9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237),
    25: (199, 207, 234, 235),
    26: (192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255),
    27: (203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254),
    28: (2, 3, 4, 5, 6, 7, 8, 11, 12, *range(14, 22), *range(23, 32), 127, 220, 249),
    30: (10, 13, 22, EOS),
}
"""Bits of a code → its symbols, in order."""


class HuffmanError(ValueError):
    """These bytes are no Huffman code of anything."""


def codes() -> dict[int, tuple[int, int]]:
    """Symbol → (its code, length of the code in bits)."""
    table: dict[int, tuple[int, int]] = {}
    code = bits = 0
    for length, symbols in _LENGTHS.items():
        code <<= length - bits
        bits = length
        for symbol in symbols:
            table[symbol] = code, length
            code += 1
    return table


def decode(raw: bytes) -> bytes:
    """The text that `raw` stands for, at most 8/5 times as long.

    Raises:
        HuffmanError: it contains EOS, or its padding is wrong.
    """
    text = bytearray()
    state = 0
    steps = _STEPS
    for byte in raw:
        state, symbol = steps[state | byte >> 4]
        if symbol >= 0:
            text.append(symbol)
        state, symbol = steps[state | byte & 15]
        if symbol >= 0:
            text.append(symbol)
    if state not in _ENDS:
        raise HuffmanError("a Huffman code ends in the middle of a symbol")
    return bytes(text)


def _tree() -> list[list[int]]:
    """Inner nodes of the code's tree, the root first: [child for 0, child for 1].

    A child that is an inner node is its number, a symbol is -1 minus the symbol.
    """
    nodes = [[0, 0]]
    for symbol, (code, length) in codes().items():
        node = 0
        for place in range(length - 1, 0, -1):
            bit = code >> place & 1
            if not nodes[node][bit]:
                nodes.append([0, 0])
                nodes[node][bit] = len(nodes) - 1
            node = nodes[node][bit]
        nodes[node][code & 1] = -1 - symbol
    return nodes


def _steps(nodes: list[list[int]]) -> tuple[tuple[int, int], ...]:
    """(16 * node | next four bits) → (16 * node after them, symbol that ended meanwhile or -1).

    After EOS the node is one more than there are; no bits lead away from there.
    """
    lost = len(nodes)
    steps: list[tuple[int, int]] = []
    for start in range(lost):
        for bits in range(16):
            node, symbol = start, -1
            for place in (3, 2, 1, 0):
                child = nodes[node][bits >> place & 1]
                if child == -1 - EOS:
                    node = lost
                    break
                if child < 0:
                    symbol = -1 - child
                    child = 0
                node = child
            steps.append((node << 4, symbol))
    return (*steps, *[(lost << 4, -1)] * 16)


def _ends(nodes: list[list[int]]) -> frozenset[int]:
    """The nodes, times 16, at which a text may end: after a symbol and up to seven ones as padding."""
    ends = [0]
    for _ in range(7):
        ends.append(nodes[ends[-1]][1])
    return frozenset(node << 4 for node in ends)


_STEPS: Final = _steps(_tree())
_ENDS: Final = _ends(_tree())

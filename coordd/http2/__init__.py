"""gRPC over HTTP/2: the wire, for both sides, with nothing of coordd above it.

The core is bytes in, bytes out, without I/O or a clock: `connection` (with `frames`, `huffman`, `hpack`,
`sending`, `streams`, `owner`) is HTTP/2, `messages` and `status` are what gRPC puts into it. `link` puts a
connection on a socket of asyncio.

Source of truth: RFC 9113 (HTTP/2), RFC 7541 (HPACK), and gRPC's doc/PROTOCOL-HTTP2.md.
"""

"""gRPC over HTTP/2: the wire, for both sides, with nothing of coordd above it.

The core (`frames`, `huffman`, `hpack`, `connection`, `messages`, `status`) is bytes in, bytes out: no I/O, no
clock. `link` puts a connection on a socket of asyncio.

Source of truth: RFC 9113 (HTTP/2), RFC 7541 (HPACK), and gRPC's doc/PROTOCOL-HTTP2.md.
"""

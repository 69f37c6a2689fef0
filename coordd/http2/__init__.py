"""gRPC over HTTP/2: the wire, for both sides, with nothing of coordd above it.

The core is bytes in, bytes out, without I/O or a clock: `connection` (with `frames`, `huffman`, `hpack`,
`sending`, `streams`, `owner`) is HTTP/2, `messages` and `status` are what gRPC puts into it. `link` puts a
connection on a socket of asyncio.

What an owner should know:
- `Http2Connection.on_ping` is None; who counts the peer's PINGs sets it. They are answered in any case.
- A server that has sent END_STREAM while the request goes on resets the stream with NO_ERROR by itself, and
  so does a client whose call was answered before it had said everything: no `reset_stream` is needed.
- Orders for streams that have ended do nothing.
- `Http2Connection.calm()` must be called now and then; `Link` does.

Source of truth: RFC 9113 (HTTP/2), RFC 7541 (HPACK), and gRPC's doc/PROTOCOL-HTTP2.md.
"""

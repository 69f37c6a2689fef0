"""RootCoord's RPC methods, one module per subject; `RootCoordHandlers` joins them.

Handlers are plain `def` where they answer from memory. None of them checks leadership or state: the chain in
`coordd.rpc` does.
"""

from coordd.rootcoord.handlers.joined import RootCoordHandlers, serve

__all__ = ["RootCoordHandlers", "serve"]

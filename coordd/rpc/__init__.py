"""RPC: a transport-agnostic chain (dispatch) and the transports that feed it.

Role packages know `Call`, the `MilvusError` classes of `status` and `Policy`; nothing above this package may
notice which transport carries a call.
"""

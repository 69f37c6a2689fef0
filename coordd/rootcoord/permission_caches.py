"""What handlers say to the proxies when users, roles or privileges have changed.

Each proxy keeps the passwords of users who have logged in, and all policies and users' roles. What it is not
told it does not know: a password that was changed, or a role that was dropped, goes on being good there. So
each change is followed by news to every proxy; `coordd.rootcoord.proxies.ProxyManager` delivers it.

Not Milvus': of a password that was changed proxies are told that it was, and not the new one; they read it
when its user next comes. A proxy that hangs may take in what is under way to it after what is sent later, and
would then go on with the older of two passwords. To forget one too late, or once more, does no harm.

Source of truth: Milvus 2.3.5 internal/proxy/meta_cache.go (RefreshPolicyInfo), util.go (passwordVerify).
"""

from typing import Protocol

from coordd.rootcoord.proxies.outbox import PolicyChange

__all__ = ["PermissionCaches", "PolicyChange"]


class PermissionCaches(Protocol):
    """The proxies' caches of passwords and policies, in one term.

    Each proxy is told in the order of the calls, again and again until it confirms, while its session and the
    term last. RpcFailure (UNAVAILABLE) means that the term is over.
    """

    def invalidate_credential(self, username: str) -> None:
        """A user's password is not what it was: forget it. Returns at once."""

    def refresh_policies(self, change: PolicyChange, key: str = "") -> None:
        """Policies have changed; returns at once.

        `key`: `user/role` for users of roles, the policy's JSON for grants, the name of a deleted one.
        """

    async def told(self, *, deadline: float) -> bool:
        """Wait until all proxies have confirmed what was said before; returns whether they have.

        `deadline`: seconds on CLOCK_BOOTTIME. Safe to cancel.
        """

    async def withhold(self, username: str, *, committed_at: int = 0) -> None:
        """A proxy that has not confirmed what was said of the user's password does no work until it has.

        `committed_at`: revision of the change, 0 if it was none. CoorddError: that is not certain.
        """

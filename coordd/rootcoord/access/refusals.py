"""How these changes are refused: in the older shape, with a legacy error code per method and no `detail`.

Source of truth: Milvus 2.3.5 internal/rootcoord/root_coord.go, internal/rootcoord/meta_table.go; texts
recorded from a running 2.3.5, those of privilege groups and backups from branch 2.5.
"""

from coordd.pb.common_pb2 import ErrorCode
from coordd.rpc.status import MilvusError, ParameterInvalid

NO_ROLE = "not found the role, maybe the role isn't existed or internal system error"
NO_USER = "not found the user, maybe the user isn't existed or internal system error"


def refused(text: str, legacy: int) -> MilvusError:
    """A refusal without a code of its own (65535). `legacy`: a `common.ErrorCode`."""
    return MilvusError(text, legacy=legacy, plain=True)


def invalid(text: str, legacy: int) -> MilvusError:
    """A refusal with Milvus' code for invalid parameters (1100), its text after `text`."""
    return ParameterInvalid(legacy=legacy, plain=True).wrap(text)


def is_blank(name: str) -> bool:
    """Whether Milvus takes a name for empty: white space alone counts as that."""
    return not name.strip()


def grant_refused(text: str) -> MilvusError:
    """OperatePrivilege and RestoreRBAC are refused."""
    return refused(text, ErrorCode.OperatePrivilegeFailure)

"""No method of RootCoord's service is left without a handler."""

import pytest

from coordd.pb import root_coord_pb2
from coordd.rootcoord.handlers import serve
from coordd.rpc.table import DispatchTable, Method, Policy
from tests.unit.rootcoord.recorded import world

SERVICE = root_coord_pb2.DESCRIPTOR.services_by_name["RootCoord"]

OF_2_3_5 = [
    "AllocID", "AllocTimestamp", "AlterAlias", "AlterCollection", "CheckHealth", "CreateAlias",
    "CreateCollection", "CreateCredential", "CreateDatabase", "CreatePartition", "CreateRole",
    "DeleteCredential", "DescribeAlias", "DescribeCollection", "DescribeCollectionInternal", "DropAlias",
    "DropCollection", "DropDatabase", "DropPartition", "DropRole", "GetComponentStates", "GetCredential",
    "GetImportState", "GetMetrics", "GetStatisticsChannel", "GetTimeTickChannel", "HasCollection",
    "HasPartition", "Import", "InvalidateCollectionMetaCache", "ListAliases", "ListCredUsers",
    "ListDatabases", "ListImportTasks", "ListPolicy", "OperatePrivilege", "OperateUserRole",
    "RenameCollection", "ReportImport", "SelectGrant", "SelectRole", "SelectUser", "ShowCollections",
    "ShowConfigurations", "ShowPartitions", "ShowPartitionsInternal", "ShowSegments",
    "UpdateChannelTimeTick", "UpdateCredential",
]  # fmt: skip
SINCE_2_5 = [
    "AlterCollectionField", "AlterDatabase", "BackupRBAC", "CreatePrivilegeGroup", "DescribeDatabase",
    "DropPrivilegeGroup", "GetPChannelInfo", "ListPrivilegeGroups", "OperatePrivilegeGroup", "RestoreRBAC",
    "ShowCollectionIDs",
]  # fmt: skip

ALWAYS = {"GetComponentStates", "GetStatisticsChannel", "GetTimeTickChannel", "ShowSegments"}
"""Answered in every state; GetMetrics while standing by too; all others only while serving."""


@pytest.fixture
async def methods() -> dict[str, Method]:
    table = DispatchTable()
    serve(table, (await world({})).handlers)
    return {method.name: method for method in table}


def test_the_service_has_the_methods_of_both_versions(methods: dict[str, Method]) -> None:
    assert sorted(method.name for method in SERVICE.methods) == sorted(OF_2_3_5 + SINCE_2_5)
    assert methods.keys() == {*OF_2_3_5, *SINCE_2_5}


def test_none_lacks_a_handler(methods: dict[str, Method]) -> None:
    assert {name for name, method in methods.items() if not method.implemented} == set()


@pytest.mark.parametrize("name", sorted({*OF_2_3_5, *SINCE_2_5}))
def test_when_a_method_is_answered(methods: dict[str, Method], name: str) -> None:
    expected = Policy.ALWAYS if name in ALWAYS else Policy.GUARDED
    if name == "GetMetrics":
        expected = Policy.HEALTHY_OR_STANDBY
    assert methods[name].policy is expected

"""Sections about who may do what, with authorization enabled, and about resource groups."""

from typing import Any

from data import FLAT, count, inserted, nearest
from definitions import listed_databases
from pymilvus import Role, connections, utility
from pymilvus.exceptions import MilvusException
from shapes import collection, create, pk, place, vector
from steps import NOTHING, TIMEOUT_S, USING, WITHIN, Steps, handler, in_database

DENIED = "permission deny"


def be(user: str, password: str) -> None:
    """Go on as another user."""
    address = connections.get_connection_addr(USING)["address"]
    connections.disconnect(USING)
    connections.connect(USING, address=address, user=user, password=password, timeout=TIMEOUT_S)


def be_root() -> None:
    """Go on as the one who may everything."""
    be("root", "Milvus")


def users() -> list[str]:
    """Names of all users."""
    return sorted(utility.list_usernames(using=USING, **WITHIN))


def roles() -> dict[str, list[str]]:
    """The users of each role."""
    found = utility.list_roles(include_user_info=True, using=USING, **WITHIN).groups
    return {one.role_name: sorted(one.users) for one in found}


def grants(role: str, db_name: str = "") -> list[str]:
    """What a role may do in a database."""
    found = Role(role, using=USING).list_grants(db_name=db_name).groups
    return sorted(f"{one.object} {one.db_name}.{one.object_name} {one.privilege}" for one in found)


def accounts(steps: Steps) -> None:
    """Users, passwords and roles."""

    def make(name: str, password: str) -> None:
        handler().create_user(name, password, timeout=TIMEOUT_S)

    def drop(name: str) -> None:
        handler().delete_user(name, timeout=TIMEOUT_S)

    steps.gives("users at first", ["root"], users)
    for name in ("alice", "bob"):
        steps.done(f"create {name}", make, name, f"{name}-one")
    steps.refused("create one again", "user already exists: alice", make, "alice", "x" * 8)
    steps.refused("a short password", "invalid password length", make, "carol", "short")
    steps.refused("a bad name", "invalid user name 1 carol", make, "1 carol", "carol-one")
    steps.gives("all users", ["alice", "bob", "root"], users)
    steps.done("go on as alice", be, "alice", "alice-one")
    steps.done("change her password", utility.update_password, "alice", "alice-one", "alice-two", using=USING)
    steps.refused("with the old one", "auth check failure", be, "alice", "alice-one")
    steps.done("with the new one", be, "alice", "alice-two")
    steps.done("go on as root", be_root)
    steps.refused(
        "a wrong password",
        "old password not correct for bob",
        utility.update_password,
        "bob",
        "wrong-one",
        "bob-two",
        using=USING,
    )
    steps.done("delete bob", drop, "bob")
    steps.refused("he cannot come", "auth check failure", be, "bob", "bob-one")
    steps.done("go on as root again", be_root)
    steps.done("delete him again", drop, "bob")
    steps.refused("delete root", "root user cannot be deleted", drop, "root")
    steps.gives("users then", ["alice", "root"], users)
    steps.gives("roles at first", {"admin": [], "public": []}, roles)
    everybody = ["Collection *.* IndexDetail", "Global *.* DescribeCollection", "Global *.* ShowCollections"]
    steps.gives("what everybody may", everybody, grants, "public", "*")
    for name in ("reader", "writer"):
        steps.done(f"create {name}", Role(name, using=USING).create)
    steps.refused(
        "create it again", 'role [name:"reader"] already exists', Role("reader", using=USING).create
    )
    steps.done("give alice a role", Role("reader", using=USING).add_user, "alice")
    steps.gives("roles", {"admin": [], "public": [], "reader": ["alice"], "writer": []}, roles)
    steps.gives(
        "hers", ["reader"], lambda: list(utility.list_user("alice", True, using=USING).groups[0].roles)
    )
    steps.refused(
        "a role that is not there", "not found the role", Role("none", using=USING).add_user, "alice"
    )
    steps.refused(
        "a user that is not there", "not found the user", Role("reader", using=USING).add_user, "nobody"
    )
    steps.refused("drop a default role", "is a default role", Role("admin", using=USING).drop)
    steps.gives(
        "is there", [True, False], lambda: [Role(n, using=USING).is_exist() for n in ("reader", "none")]
    )


def rights(steps: Steps) -> None:
    """What is granted counts at once, and so does what is taken away."""
    create("secrets", [pk(), vector()])
    secrets = collection("secrets")
    secrets.insert([{"pk": number, "vec": place(number)} for number in range(10)], **WITHIN)
    secrets.create_index("vec", FLAT, **WITHIN)
    secrets.load(**WITHIN)
    reader = Role("reader", using=USING)
    steps.done("go on as alice", be, "alice", "alice-two")
    steps.gives("everybody may describe", "secrets", lambda: described_by_anybody()["collection_name"])
    for what, call in _everything():
        steps.refused(f"alice may not {what}", DENIED, call)
    for privilege, what in (("Search", "search"), ("Query", "query"), ("Insert", "insert")):
        steps.done("go on as root", be_root)
        steps.done(f"grant {privilege}", reader.grant, "Collection", "secrets", privilege)
        steps.done("go on as alice", be, "alice", "alice-two")
        steps.becomes(f"alice may {what}", "may", _tried, dict(_everything())[what])
    steps.refused("but not delete", DENIED, dict(_everything())["delete"])
    steps.done("go on as root", be_root)
    steps.gives(
        "what is granted",
        [f"Collection default.secrets {p}" for p in ("Insert", "Query", "Search")],
        grants,
        "reader",
    )
    steps.refused("drop a role that may", "fail to drop the role that it has privileges", reader.drop)
    steps.done("take Search away", reader.revoke, "Collection", "secrets", "Search")
    steps.done("go on as alice", be, "alice", "alice-two")
    steps.becomes_refused("alice may not search", DENIED, dict(_everything())["search"])
    steps.gives("she may still query", "may", _tried, dict(_everything())["query"])
    _more_rights(steps)


def _more_rights(steps: Steps) -> None:
    """Global ones, those of other databases, of all objects, and the end of them."""
    reader, writer = Role("reader", using=USING), Role("writer", using=USING)
    steps.done("go on as root", be_root)
    steps.done("grant a global one", writer.grant, "Global", "*", "CreateDatabase")
    steps.done("give it to alice", writer.add_user, "alice")
    steps.done("all on all of another database", writer.grant, "Collection", "*", "*", db_name="music")
    steps.refused("no such privilege", "not found the privilege name", writer.grant, "Global", "*", "Fly")
    steps.refused("no such object", "not found the object type", writer.grant, "Planet", "*", "Search")
    steps.gives("grants of one", ["Global default.* CreateDatabase"], grants, "writer")
    steps.gives("in the other database", ["Collection music.* *"], grants, "writer", "music")
    steps.done("go on as alice", be, "alice", "alice-two")
    steps.becomes("she may create a database", NOTHING, handler().create_database, "hers", **WITHIN)
    with in_database("music"):
        steps.gives("she may insert in the other", 1, _insert_in_music)
    steps.refused("but not here", DENIED, lambda: handler().drop_collection("secrets", timeout=TIMEOUT_S))
    steps.done("go on as root", be_root)
    steps.gives("it is there", ["default", "empty", "hers", "music"], listed_databases)
    steps.done("take her role away", writer.remove_user, "alice")
    steps.done("go on as alice", be, "alice", "alice-two")
    steps.becomes_refused("she may not any more", DENIED, lambda: handler().create_database("hers", **WITHIN))
    steps.done("go on as root", be_root)
    steps.done("make her an admin", Role("admin", using=USING).add_user, "alice")
    steps.done("go on as alice", be, "alice", "alice-two")
    steps.becomes("she may everything", "may", _tried, dict(_everything())["search"])
    steps.done("go on as root", be_root)
    steps.done("drop her database", handler().drop_database, "hers", **WITHIN)
    for privilege in ("Query", "Insert"):
        steps.done(f"take {privilege}", reader.revoke, "Collection", "secrets", privilege)
    steps.done("take the global one", writer.revoke, "Global", "*", "CreateDatabase")
    steps.done("drop the one", reader.drop)
    steps.done("take that in the other database", writer.revoke, "Collection", "*", "*", db_name="music")
    steps.done("drop the other", writer.drop)
    steps.gives("roles", {"admin": ["alice"], "public": []}, roles)
    steps.done("delete alice", handler().delete_user, "alice", **WITHIN)
    steps.gives("users", ["root"], users)
    steps.gives("admins", {"admin": [], "public": []}, roles)
    steps.done("drop the collection", handler().drop_collection, "secrets", **WITHIN)


def described_by_anybody() -> dict[str, Any]:
    """A description, without the partitions, which not everybody may list."""
    found: dict[str, Any] = handler().describe_collection("secrets", timeout=TIMEOUT_S)
    return found


def _everything() -> list[tuple[str, Any]]:
    """Calls of which each needs a privilege of its own."""
    thin = {"pk": 77, "vec": place(77)}
    return [
        ("search", lambda: nearest("secrets", 5)),
        ("query", lambda: count("secrets")),
        ("insert", lambda: inserted("secrets", [thin])),
        ("delete", lambda: collection("secrets").delete("pk in [1]", **WITHIN)),
        ("upsert", lambda: collection("secrets").upsert([thin], **WITHIN)),
        ("load", lambda: handler().load_collection("secrets", timeout=TIMEOUT_S)),
        ("flush", lambda: collection("secrets").flush(**WITHIN)),
        ("create a collection", lambda: create("hers", [pk(), vector()])),
        ("drop it", lambda: handler().drop_collection("secrets", timeout=TIMEOUT_S)),
        ("create a partition", lambda: handler().create_partition("secrets", "p", timeout=TIMEOUT_S)),
        ("create an alias", lambda: handler().create_alias("secrets", "s", timeout=TIMEOUT_S)),
        ("rename it", lambda: handler().rename_collections("secrets", "mine", "", timeout=TIMEOUT_S)),
        ("create a database", lambda: handler().create_database("hers", timeout=TIMEOUT_S)),
        ("create a user", lambda: handler().create_user("carol", "carol-one", timeout=TIMEOUT_S)),
        ("create a role", lambda: Role("hers", using=USING).create()),
        ("list roles", roles),
        ("grant", lambda: Role("reader", using=USING).grant("Collection", "secrets", "Search")),
        ("create a resource group", lambda: handler().create_resource_group("hers", timeout=TIMEOUT_S)),
    ]


def _tried(call: Any) -> str:
    """Only a denial counts."""
    try:
        call()
    except MilvusException as error:
        if DENIED in str(error):
            raise
    return "may"


def _insert_in_music() -> int:
    rows = [{"other": 500, "where": [500.0, 0.0, 0.0]}]
    return inserted("parts", rows)


def resource_groups(steps: Steps) -> None:
    """Groups of query nodes: there is one node."""
    group, default = "rg", "__default_resource_group"
    make, drop = handler().create_resource_group, handler().drop_resource_group
    steps.gives("at first", [default], handler().list_resource_groups, **WITHIN)
    steps.done("create", make, group, **WITHIN)
    steps.refused("create it again", "resource group already exist", make, group, **WITHIN)
    steps.refused("a bad name", "Invalid resource group name 1 rg", make, "1 rg", **WITHIN)
    steps.gives("all", sorted([default, group]), lambda: sorted(handler().list_resource_groups(**WITHIN)))
    steps.gives("it is empty", 0, _nodes, group)
    steps.refused(
        "move more than there are", "nodes not enough", handler().transfer_node, default, group, 2, **WITHIN
    )
    steps.done("move the node", handler().transfer_node, default, group, 1, **WITHIN)
    steps.gives("it has one", 1, _nodes, group)
    steps.refused("drop it with a node", "delete non-empty rg is not permitted", drop, group, **WITHIN)
    steps.done("load into it", collection("parts").load, _resource_groups=[group], **WITHIN)
    steps.gives("search there", [9], nearest, "parts", 50, 1)
    steps.becomes("its replicas", {"parts": 1}, _replicas, group)
    steps.refused(
        "move what is not loaded",
        "only found [0] replicas",
        handler().transfer_replica,
        group,
        default,
        "dynamic",
        1,
        **WITHIN,
    )
    steps.done("release", collection("parts").release, **WITHIN)
    steps.done("move the node back", handler().transfer_node, group, default, 1, **WITHIN)
    steps.gives("it is empty again", 0, _nodes, group)
    steps.done("drop it", drop, group, **WITHIN)
    steps.refused(
        "describe it", "resource group not found[rg=rg]", handler().describe_resource_group, group, **WITHIN
    )
    steps.refused("drop the default one", "delete default rg is not permitted", drop, default, **WITHIN)
    steps.gives("all in the end", [default], handler().list_resource_groups, **WITHIN)


def _nodes(group: str) -> int:
    return int(handler().describe_resource_group(group, timeout=TIMEOUT_S).num_available_node)


def _replicas(group: str) -> dict[str, int]:
    return dict(handler().describe_resource_group(group, timeout=TIMEOUT_S).num_loaded_replica)

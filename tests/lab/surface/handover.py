"""Sections between which another product's rootcoord goes on with what there is.

`left_behind` runs before it does, `goes_on` while it has its turn, `comes_back` when it is over.
"""

from data import count, inserted
from imports import ENDED, IMPORTED, NAME, ask, bad_file, next_to, row, tasks
from permissions import DENIED, be, be_root, grants, roles, users
from pymilvus import Role, utility
from shapes import collection
from steps import USING, WITHIN, Steps, handler

ADDED = 10
ROLE = "keeper"
PRIVILEGES = ("Query", "Search")
THREE_TASKS = [*ENDED, ENDED[1]]


def left_behind(steps: Steps) -> None:
    """A user with a role, who has not been here when the other takes over."""
    steps.done("create carol", handler().create_user, "carol", "carol-one", **WITHIN)
    keeper = Role(ROLE, using=USING)
    steps.done("create her role", keeper.create)
    for privilege in PRIVILEGES:
        steps.done(f"grant {privilege}", keeper.grant, "Collection", NAME, privilege)
    steps.done("give it to her", keeper.add_user, "carol")


def goes_on(steps: Steps) -> None:
    """What was there is there, and more is made."""
    steps.gives("tasks", ENDED, tasks)
    steps.gives("users", ["carol", "root"], users)
    steps.gives("roles", {"admin": [], ROLE: ["carol"], "public": []}, roles)
    steps.done("load", collection(NAME).load, **WITHIN)
    steps.refused("a wrong password", "auth check failure", be, "carol", "carol-two")
    steps.done("go on as carol", be, "carol", "carol-one")
    steps.gives("she may count", IMPORTED, count, NAME)
    steps.gives("and search", [150, 149, 151, 1.0], next_to, 150)
    steps.refused("but not insert", DENIED, inserted, NAME, [row(IMPORTED)])
    steps.done("change her password", utility.update_password, "carol", "carol-one", "carol-two", using=USING)
    steps.done("go on as root", be_root)
    steps.done("create dave", handler().create_user, "dave", "dave-one", **WITHIN)
    steps.done("give him her role", Role(ROLE, using=USING).add_user, "dave")
    rows = [row(number) for number in range(IMPORTED, IMPORTED + ADDED)]
    steps.gives("insert", ADDED, inserted, NAME, rows)
    steps.gives("count", IMPORTED + ADDED, count, NAME)
    steps.done("import what is no good", ask, bad_file())
    steps.becomes("tasks then", THREE_TASKS, tasks)
    steps.done("release", collection(NAME).release, **WITHIN)


def comes_back(steps: Steps) -> None:
    """What was made meanwhile is there, too, and can be taken away."""
    steps.gives("tasks", THREE_TASKS, tasks)
    steps.done("load", collection(NAME).load, **WITHIN)
    steps.refused("the old password", "auth check failure", be, "carol", "carol-one")
    for user, password in (("carol", "carol-two"), ("dave", "dave-one")):
        steps.done(f"go on as {user}", be, user, password)
        steps.gives(f"{user} may count", IMPORTED + ADDED, count, NAME)
        steps.gives("and search", [305, 304, 306, 1.0], next_to, 305)
        steps.refused("but not delete", DENIED, lambda: collection(NAME).delete("pk in [1]", **WITHIN))
    steps.done("go on as root", be_root)
    steps.gives("what is granted", [f"Collection default.{NAME} {one}" for one in PRIVILEGES], grants, ROLE)
    keeper = Role(ROLE, using=USING)
    for privilege in PRIVILEGES:
        steps.done(f"take {privilege}", keeper.revoke, "Collection", NAME, privilege)
    steps.done("drop the role", keeper.drop)
    for user in ("carol", "dave"):
        steps.done(f"delete {user}", handler().delete_user, user, **WITHIN)
    steps.gives("users", ["root"], users)
    steps.gives("roles", {"admin": [], "public": []}, roles)

"""Users, roles, grants and privilege groups: what each change writes, or why it is refused.

Pure functions over the tables; the handlers commit what they say and tell the proxies.
"""

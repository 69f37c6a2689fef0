"""The root coordinator: databases, collections, partitions, aliases, users and roles, timestamps and IDs."""

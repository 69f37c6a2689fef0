"""coordd: the coordinators of a Milvus cluster, as one asyncio daemon."""

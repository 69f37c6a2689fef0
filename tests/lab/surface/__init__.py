"""The whole surface of pymilvus 2.3.5 as a script in sections; see `driver`."""

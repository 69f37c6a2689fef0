"""Does the suite notice when what keeps two replicas apart is taken out? `make mutants`."""

"""Programs that print a table: our work beside its peers, in one run."""

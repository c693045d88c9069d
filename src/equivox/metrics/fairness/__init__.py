"""How scores differ between groups of patients, and what may be said of it."""

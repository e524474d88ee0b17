"""Independent restatements of the rules, for tests to compare the pipelines with."""

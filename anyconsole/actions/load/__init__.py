"""Load tests: what is asked for, how the rate is searched, what limited it, and the record of it all."""

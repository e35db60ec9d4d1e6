"""Many workers on one set of parameters."""

"""The System interface, the registry, and the suite's own systems."""

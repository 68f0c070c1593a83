"""The mesh in Home Assistant: what is said of each node and of the master, and checked before. Pure but `runner`."""

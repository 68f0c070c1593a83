"""What tests of programs that use the mesh need: the cores in memory, on a clock that the test moves."""

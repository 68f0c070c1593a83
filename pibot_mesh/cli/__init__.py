"""The command line ``pibot``: one module a command, imported when it is called."""

"""The node: runs tasks with its tools and devices. `core` decides, `journal` remembers, `service` wires."""

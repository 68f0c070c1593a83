"""A node's devices: what kinds there are (`kinds`), the rules for outputs (`outputs`, pure), and the pins (`board`)."""

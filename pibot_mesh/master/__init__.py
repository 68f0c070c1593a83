"""The master: turns requests into plans, and plans into tasks. `core` decides, `ledger` remembers, `service` wires."""

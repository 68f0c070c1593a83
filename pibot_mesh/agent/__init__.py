"""Tools and the agent core. Knows no MQTT."""

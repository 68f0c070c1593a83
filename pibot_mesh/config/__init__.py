"""Configuration: YAML files and environment variables to frozen dataclasses (`settings`), checked at the edge (`loader`)."""

"""YAML files and environment variables (`loader`) to frozen dataclasses (`settings`)."""

"""Presets that travel with the package: one YAML file each, read through importlib.resources."""

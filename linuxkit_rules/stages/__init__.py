"""Stages: one file each, a frozen dataclass of parameters and a pure function over descriptors."""

"""Machines in QEMU: running images, and boot tests."""

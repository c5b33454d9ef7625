"""Host programs and firmware, from locked Debian packages: one folder a tool."""

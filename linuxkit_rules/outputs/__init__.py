"""Output formats, one file for each of LinuxKit's format names; found by looking."""

"""The component library: one folder a component, build.yml and files."""

"""From a Spec to the graph of steps that makes its image, without any build tool."""

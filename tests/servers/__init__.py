"""Real servers for tests, on loopback: Docker's registry, nginx, a token server, a proxy that errs."""

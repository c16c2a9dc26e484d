"""The environments as JAX functions, one module each; `jaxpuffer.make` finds them by name."""

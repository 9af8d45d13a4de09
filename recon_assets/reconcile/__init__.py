"""The heart: what each layer must be, the audit that says what is not right, the convergence that makes it so."""

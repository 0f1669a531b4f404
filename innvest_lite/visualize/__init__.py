"""Pictures of explanations (see the modules)."""

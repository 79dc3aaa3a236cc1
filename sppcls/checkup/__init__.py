"""What ``sppcls doctor`` looks at. Nothing here is imported at start that a broken installation could break."""

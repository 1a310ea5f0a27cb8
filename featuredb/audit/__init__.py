"""Findings: which features and labels not to trust, and why."""

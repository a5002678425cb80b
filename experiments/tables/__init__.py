"""Markdown tables of what the records hold."""

"""Trained models, named by folder, hub commit or installed package: located, checked, loaded without their code."""

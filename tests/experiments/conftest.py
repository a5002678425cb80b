"""The small projects that the command line is tried on serve the lab notebook, too."""

from tests.unit.cli.conftest import catalogue, dvc_project, project_that_ran

__all__ = ["catalogue", "dvc_project", "project_that_ran"]

"""Alembic revisions of the catalog: one file each in versions/, named r<revision>_<what>.py, never altered later."""

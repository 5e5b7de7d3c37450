"""A Faust transport that hands agents whole batches; life cycle, groups and assignment stay Faust's."""

from .connection import mend_connections

mend_connections()

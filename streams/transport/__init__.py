"""A Faust transport that hands agents whole batches; life cycle, groups and assignment stay Faust's."""

from .codec import compile_hot_schemas
from .connection import mend_connections

compile_hot_schemas()
mend_connections()

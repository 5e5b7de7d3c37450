"""A Faust transport that hands agents whole batches; life cycle, groups and assignment stay Faust's."""

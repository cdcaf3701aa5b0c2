"""The implementations of the ``transship`` commands; `transship.cli` only defines their names and options."""

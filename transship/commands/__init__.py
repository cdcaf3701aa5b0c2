"""What each command of ``transship`` does; `transship.cli` only names them and their options."""

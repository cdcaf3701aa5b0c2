"""This machine: its processes, sockets, directories, environment and logs."""

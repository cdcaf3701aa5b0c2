"""Supervises the processes of one machine: starts them in order, restarts dead ones, and stops all of them.

Depends only on the configuration and the domain. Everything else runs as a child process.
"""

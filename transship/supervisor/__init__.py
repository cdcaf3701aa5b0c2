"""The processes of one machine: started in order, restarted when they die, stopped without a trace.

Knows configuration and the domain only. Everything else runs as a child process.
"""

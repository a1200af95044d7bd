"""The commands of `flywheel`, one module for each topic. They ask `Operations` and show the answer.

Heavy modules are imported inside functions, so that a command starts fast.
"""

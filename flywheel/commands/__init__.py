"""The commands of `flywheel`, one module for each topic. They ask `Operations` and show the answer."""

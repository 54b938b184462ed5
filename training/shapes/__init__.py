"""The ``shapes`` family: five small models of coloured shapes, trained on one CPU core by ``python -m training.shapes``."""

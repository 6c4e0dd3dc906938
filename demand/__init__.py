"""How likely a classified ad is to end in a deal: the core of avito-demand.

An ad goes in as its seller wrote it, a probability comes out, and one
:class:`demand.model.predictor.Predictor` does it everywhere: in training, in the checks,
in the model server and in batch files. Nothing in this package knows ZenML, and
importing it has no side effects.
"""

__version__ = "0.1.0"

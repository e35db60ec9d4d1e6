"""The tasks: what each model learns on its own. Each loads when it is first used."""

# The names on the command line, with the module and the class of each.
TASKS = {
    "linear-regression": ("regression", "LinearRegressionTask"),
    "mnist": ("classification", "ImageTask"),
    "nback": ("sequences", "NBack"),
    "copy": ("sequences", "Copy"),
    "repeat-copy": ("sequences", "RepeatCopy"),
    "addition": ("translation", "Addition"),
    "reverse": ("translation", "Reverse"),
    "vae": ("vae", "VAETask"),
    "gan": ("gan", "GANTask"),
    "pixelrnn": ("pixelrnn", "PixelRNNTask"),
}
GENERATIVE = ("vae", "gan", "pixelrnn")  # those whose models draw images

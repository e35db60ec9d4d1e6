"""The backbones by name, apart from their code so that the command line can list them without TensorFlow."""

BACKBONES = {
    "mlp": "two layers of 64 tanh units, for vectors",
    "cnn": "the A3C paper's convolutional network (16 8×8/4, 32 4×4/2, 256 units), for images",
    "nature": "the Nature DQN network (32 8×8/4, 64 4×4/2, 64 3×3/1, 512 units), for images",
    "small-cnn": "for small frames such as 42×42 (16 4×4/2, 32 4×4/2, 32 3×3/2, 256 units)",
    "tiny-cnn": "for images of 7×7 pixels and more (16 3×3/1, 32 3×3/1, padded, 256 units)",
    "vbn-cnn": "`cnn` with virtual batch normalization, for `snes`, which measures its reference batch",
    "vbn-small-cnn": "`small-cnn` with the same",
    "highway": "eight highway layers (64 units), for images of 256 units over convolutions that fit",
    "residual": "eight residual layers (64 units), for images of 256 units over convolutions that fit",
    "rnn": "a simple recurrent network over `mlp` (64 units), or over convolutions that fit the images (256 units)",
    "lstm": "an LSTM with peepholes over the same",
    "dnc": "a differentiable neural computer over the same: 16 locations of 16 numbers, 2 read heads",
    "seq2seq": "a sequence encoder over the last 8 outputs of the same",
}

REMEMBERING = ("rnn", "lstm", "dnc", "seq2seq")

# Those that begin with what a run has learned.
RUN_BACKBONES = {
    "vae:RUN": "the encoder of a run of the task `vae`, as it is, over each frame of an image; 256 units over it",
    "vae-tuned:RUN": "the same, learned further",
}

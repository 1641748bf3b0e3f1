"""ConvSparseCoder and its torch form."""

"""The layered coders: LayeredThresholding, LayeredBasisPursuit, DeepPursuit, MultilayerPursuit."""

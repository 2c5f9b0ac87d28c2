"""Recognition of the network in a weight file, one module per family of backbones."""

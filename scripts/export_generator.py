"""Write a trained generator as an ONNX file or a torch.export program."""

import sys

from adaptive_scan.commands import export_generator_main

if __name__ == "__main__":
    sys.exit(export_generator_main())

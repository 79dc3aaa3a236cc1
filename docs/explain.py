"""Draw ``docs/explain.png``: what the pyramid of the default run saw in a generated image that it was not trained on.

python train.py
python docs/explain.py runs/shapes/NAME/best.ckpt
"""

import argparse
import io
from pathlib import Path

from PIL import Image

import sppcls
from sppcls.data.shapes import ShapesSource
from sppcls.inference.explain.explanation import explain

CLASS = "checks disc"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="best.ckpt or last.ckpt of `python train.py`")
    args = parser.parse_args()
    net = sppcls.load_classifier(args.checkpoint)
    data = net.model_info["config"]["data"]
    images = ShapesSource("val", data["num_val"])
    first = images.targets.index(images.classes.index(CLASS))
    picture = Path(__file__).with_suffix(".png")
    drawn = io.BytesIO()
    explain(net, images.image(first)).figure().savefig(drawn, dpi=100)
    # 256 colours show all of it, in fewer bytes.
    Image.open(drawn).convert("RGB").quantize(256).save(picture, optimize=True)
    print(f"{picture}: {images.name(first)}")


if __name__ == "__main__":
    main()

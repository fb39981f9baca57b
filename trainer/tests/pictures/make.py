"""Makes the pictures beside this file, kinds that the image crate does not write: a CMYK JPEG of one red, an animated
WebP, an animated PNG and an animated GIF whose first frame is green.

    .venv/bin/pip install pillow && .venv/bin/python trainer/tests/pictures/make.py"""

import pathlib

from PIL import Image

here = pathlib.Path(__file__).parent
Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(here / "cmyk.jpg", quality=95)
frames = [Image.new("RGB", (16, 16), color) for color in ((0, 200, 0), (0, 0, 200))]
for name, options in (("animated.webp", {"lossless": True}), ("animated.png", {}), ("animated.gif", {})):
    frames[0].save(here / name, save_all=True, append_images=frames[1:], duration=100, **options)

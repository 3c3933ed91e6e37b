# SPDX-License-Identifier: MIT
"""usage: check_page.py FILE.html [TEXT...]: is it well-formed, does it stand alone, are its drawings made of numbers, and
does it say each TEXT?"""
import re
import sys
import xml.etree.ElementTree as tree

VOID = {"meta"}
NUMBERS = {"x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height"}


def fail(what):
    print(what)
    sys.exit(1)


page = open(sys.argv[1], "rb").read().decode("utf-8")
if not page.startswith("<!DOCTYPE html>\n"):
    fail("no document type")
root = tree.fromstring(page[len("<!DOCTYPE html>\n"):])  # strict: any slip is an error
if [e.tag for e in root] != ["head", "body"]:
    fail("not a page of head and body")
for e in root.iter():
    if e.tag in ("script", "link", "iframe", "img", "object", "embed", "base", "form", "use", "image"):
        fail(f"<{e.tag}> is not of a page that stands alone")
    if len(e) == 0 and not (e.text or "").strip() and e.tag in ("svg", "h1", "title"):
        fail(f"an empty <{e.tag}>")
    for name, value in e.attrib.items():
        if name.startswith("on") or name in ("src", "href", "style"):
            fail(f"attribute {name}")
        if name in NUMBERS and not re.fullmatch(r"-?\d+(\.\d+)?", value) and e.tag != "meta":
            fail(f"{e.tag} {name}={value}")
        if name == "points" and not re.fullmatch(r"(-?\d+\.\d,-?\d+\.\d )*", value):
            fail(f"points {value}")
if re.search(r"https?:|//|url\(|@import", page):
    fail("names something outside")
text = "".join(root.itertext())
for wanted in sys.argv[2:]:
    if wanted not in text:
        fail(f"does not say {wanted!r}")

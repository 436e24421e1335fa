"""embed.py FILE OUT NAME: a C source with the text of FILE as the constant NAME."""
import sys

source, out, name = sys.argv[1:]
with open(source, "rb") as f:
    octets = f.read()
with open(out, "w") as f:
    f.write("extern const char %s[];\nconst char %s[] = {\n" % (name, name))
    for i in range(0, len(octets), 16):
        f.write("".join("%d," % (b if b < 128 else b - 256) for b in octets[i:i + 16]) + "\n")
    f.write("0};\n")

"""A next hop for demo and tests: takes mail with aiosmtpd and keeps each in a file.

A message NNNNNN.eml is written whole before its 250; envelope and arrival order go to index.jsonl.
"""
import argparse
import asyncio
import json
import os
import signal

from aiosmtpd.smtp import SMTP


class Keeper:
    def __init__(self, directory):
        self.directory = directory
        self.count = len([n for n in os.listdir(directory) if n.endswith(".eml")])
        self.index = open(os.path.join(directory, "index.jsonl"), "a", buffering=1)

    async def handle_DATA(self, server, session, envelope):
        self.count += 1
        name = "%06d.eml" % self.count
        with open(os.path.join(self.directory, name + ".part"), "wb") as f:
            f.write(envelope.original_content)
        os.rename(os.path.join(self.directory, name + ".part"), os.path.join(self.directory, name))
        self.index.write(json.dumps({"file": name, "from": envelope.mail_from,
                                     "to": envelope.rcpt_tos}) + "\n")
        return "250 2.0.0 kept as " + name


async def main(args):
    host, port = args.listen.rsplit(":", 1)
    keeper = Keeper(args.directory)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(keeper, data_size_limit=args.size, hostname="mta1.example.net"),
        host=host, port=int(port), backlog=256)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--listen", required=True, help="ADDRESS:PORT")
    p.add_argument("--directory", required=True)
    p.add_argument("--size", type=int, default=100 << 20)
    asyncio.run(main(p.parse_args()))

// SPDX-License-Identifier: Apache-2.0
// node scan.js MS HOST:PORT...: which of these addresses accept a connection within so many
// milliseconds, as a JSON object of "open", "refused" and the like.
"use strict";
const net = require("net");
const [wait, ...targets] = process.argv.slice(2);

function look(target) {
  const at = target.lastIndexOf(":");
  return new Promise((done) => {
    const socket = net.connect(Number(target.slice(at + 1)), target.slice(0, at));
    const end = (word) => {
      socket.destroy();
      done([target, word]);
    };
    socket.setTimeout(Number(wait), () => end("silent"));
    socket.on("connect", () => end("open"));
    socket.on("error", (error) => end(error.code));
  });
}

Promise.all(targets.map(look)).then((found) =>
  console.log(JSON.stringify(Object.fromEntries(found)))
);

// SPDX-License-Identifier: Apache-2.0
// Answers every request with a mark of its own (the id that the front gave it) and says on standard
// output, one JSON object per line, what it was asked and how long the body was. witness.js PORT
// [COMMAND...]: starts the command once it listens.
"use strict";
const { spawn } = require("child_process");
const http = require("http");
const [port, ...before] = process.argv.slice(2);

function tell(request, bytes, whole) {
  const { method, url, headers } = request;
  const id = headers["x-request-id"] || "";
  console.log(JSON.stringify({ id, method, url, bytes, whole, host: headers.host || "" }));
}

const server = http.createServer((request, response) => {
  let bytes = 0;
  request.on("data", (piece) => (bytes += piece.length));
  request.on("aborted", () => tell(request, bytes, false));
  request.on("end", () => {
    tell(request, bytes, true);
    const mark = request.headers["x-request-id"] || "none";
    response.writeHead(200, { "X-Mark": mark, "Content-Type": "text/plain" });
    response.end(`${request.method} ${request.url} ${bytes}\n`);
  });
});
server.keepAliveTimeout = 60000;
server.on("clientError", (error, socket) => {
  console.log(JSON.stringify({ id: "", refused: String(error.code) }));
  socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
});
server.listen(Number(port), () => {
  if (before.length)
    spawn(before[0], before.slice(1), { stdio: "inherit" }).on("exit", process.exit);
});

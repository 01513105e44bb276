/**
 * The peer: a Socket.IO server that lets in by token, puts each socket into its token's room, and sends what one member
 * says to all of the room, with an acknowledgement to who said it. Nothing is kept.
 *
 * It listens on a free port of loopback, tells it as a line of JSON, and ends with its standard input. The key of the
 * tokens (`room:member:hex of HMAC-SHA256 of room:member`) is in SIGNALLING_PEER_KEY.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { Server } from "socket.io";
import parser from "socket.io-msgpack-parser";

const key = Buffer.from(process.env.SIGNALLING_PEER_KEY, "hex");

function admitted(token) {
  const [room, member, seal] = String(token ?? "").split(":");
  const wanted = createHmac("sha256", key).update(`${room}:${member}`).digest();
  const shown = Buffer.from(seal ?? "", "hex");
  return shown.length === wanted.length && timingSafeEqual(shown, wanted) ? { room, member } : null;
}

const http = createServer();
const io = new Server(http, {
  parser,
  transports: ["websocket"],
  serveClient: false,
  pingInterval: 5_000,
  pingTimeout: 5_000,
});
const revisions = new Map();

io.use((socket, next) => {
  const who = admitted(socket.handshake.auth.token);
  if (who === null) return next(new Error("token_invalid"));
  socket.data = who;
  return next();
});

io.on("connection", (socket) => {
  const { room, member } = socket.data;
  socket.join(room);
  socket.on("command", (command, answer) => {
    if (command.type === "turn_page") {
      const revision = (revisions.get(room) ?? 0) + 1;
      revisions.set(room, revision);
      io.to(room).emit("event", { type: "page_turned", revision, at_ms: Date.now(), by: member, view: command.view });
    }
    answer({ ok: true, result: {} });
  });
});

http.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ url: `http://127.0.0.1:${http.address().port}` })));
process.stdin.on("end", () => process.exit(0)).resume();

// The chat client: SignalR's JSON protocol on the browser's own WebSocket, and a look at what flows.
"use strict";

const byId = (id) => document.getElementById(id);
const RECORD_SEPARATOR = "\x1e";
const PING_MS = 15000, SILENCE_MS = 30000, MESSAGES_MAX = 200;
let socket = null, connectionId = null, failures = 0, lastReceived = 0;

const name = byId("name");
name.value = localStorage.getItem("name") || `guest${Math.floor(Math.random() * 900 + 100)}`;
name.addEventListener("change", () => localStorage.setItem("name", name.value));

// The app server says where the service is and signs a token; the service then gives the connection an id.
async function negotiate() {
  let url = new URL(`/chat/negotiate?negotiateVersion=1&user=${encodeURIComponent(name.value)}`, location.href);
  let token = null;
  for (let hop = 0; hop < 5; hop++) {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const response = await fetch(url, { method: "POST", headers });
    if (!response.ok) throw new Error(await response.text() || `negotiate: ${response.status}`);
    const answer = await response.json();
    if (answer.error) throw new Error(answer.error);
    if (!answer.url) {
      url.pathname = url.pathname.replace(/\/negotiate$/, "/");
      url.protocol = url.protocol.replace("http", "ws");
      url.searchParams.set("id", answer.connectionToken);
      url.searchParams.set("access_token", token);
      return url;
    }
    token = answer.accessToken;
    url = new URL(answer.url);
    url.pathname = `${url.pathname.replace(/\/$/, "")}/negotiate`;
  }
  throw new Error("too many redirects");
}

async function connect() {
  show("waiting", "connecting");
  try {
    const mine = socket = new WebSocket(await negotiate());
    let rest = "", isOpen = false, why = "connection lost";
    const timer = setInterval(() => Date.now() - lastReceived > SILENCE_MS ? mine.close() : isOpen && send({ type: 6 }), PING_MS);
    lastReceived = Date.now();
    mine.onopen = () => send({ protocol: "json", version: 1 });
    mine.onmessage = ({ data }) => {
      lastReceived = Date.now();
      const records = (rest + data).split(RECORD_SEPARATOR);
      rest = records.pop();
      for (const record of records.map((text) => JSON.parse(text))) {
        if (record.error) why = record.error;
        else if (isOpen) receive(record);
        else { isOpen = true; failures = 0; byId("send").disabled = false; show("up", "connected"); }
      }
    };
    mine.onclose = () => { clearInterval(timer); retry(why); };
  } catch (error) {
    retry(error.message);
  }
}

// 0, 1, 2, 4 … 30 seconds, and a little chance, so that many pages do not come back in step.
function retry(why) {
  byId("send").disabled = true;
  const delay = Math.min(30, failures ? 2 ** (failures - 1) : 0) + Math.random();
  failures++;
  show("down", `${why}; again in ${Math.ceil(delay)} s`);
  setTimeout(connect, delay * 1000);
}

const send = (message) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message) + RECORD_SEPARATOR);

function receive({ type, target, arguments: values }) {
  if (type !== 1) return;
  if (target === "hello") {
    connectionId = values[0];
    show("up", `connected as ${short(connectionId)}`);
    addMessage("note", `You are connection ${connectionId}.`);
  } else if (target === "recv" && values[0] === "all") {
    const [from, text] = split(values[1]);
    addMessage(from === name.value ? "own" : "", text, from);
  }
}

// A message travels as "name: text".
const split = (message) => { const at = message.indexOf(": "); return at < 0 ? ["", message] : [message.slice(0, at), message.slice(at + 2)]; };

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("message").value.trim();
  if (!text || byId("send").disabled) return;
  send({ type: 1, target: "Broadcast", arguments: [`${name.value.replaceAll(": ", " ") || "guest"}: ${text}`] });
  byId("message").value = "";
});

function addMessage(kind, text, from) {
  const list = byId("messages"), item = element("li", text, kind);
  if (from) item.prepend(element("b", from));
  list.append(item);
  while (list.children.length > MESSAGES_MAX) list.firstChild.remove();
  list.scrollTop = list.scrollHeight;
}

function show(state, text) {
  byId("status").dataset.state = state;
  byId("status").textContent = text;
}

let before = new Map();
async function showFlow() {
  try {
    const { shards, clients } = await (await fetch("/flow")).json(), now = performance.now();
    byId("shards").replaceChildren(...shards.map((shard) => {
      const total = shard.relayed + shard.fan_out, last = before.get(shard.id);
      const rate = last ? Math.max(0, Math.round((total - last.total) * 1000 / (now - last.now))) : 0;
      before.set(shard.id, { total, now });
      const box = element("div", `shard ${shard.id} · ${shard.clients} clients · ${shard.server_connections} server connections · ${shard.relayed} relayed · ${shard.fan_out} fanned out`, "shard");
      box.prepend(element("strong", `${rate} messages/s`));
      return box;
    }));
    byId("flow").tBodies[0].replaceChildren(...clients.map((client) => {
      const row = element("tr", "", client.id === connectionId ? "own" : "");
      const cells = [[short(client.id), "id"], [client.user || "–"], [client.hub], [short(client.server_connection), "id"], [client.shard]];
      row.append(...cells.map(([text, kind]) => element("td", text, kind)));
      return row;
    }));
  } catch { /* the page keeps what it shows; the status line tells that the service is away */ }
  setTimeout(showFlow, 1000);
}

const short = (id) => String(id ?? "").slice(0, 8);

function element(tag, text, kind) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

connect();
showFlow();

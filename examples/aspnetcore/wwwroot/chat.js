// Talks to the hub by Microsoft's client. It asks the app for its hub and is sent on to hubring by the SDK: nothing here knows of that.
"use strict";

const byId = (id) => document.getElementById(id);
let connection = null;
let room = null;

byId("enter").addEventListener("submit", async (event) => {
  event.preventDefault();
  await connection?.stop();
  room = byId("room").value;
  connection = connectionOf(byId("name").value);
  try {
    await connection.start();
    await enter();
  } catch (error) {
    show(error.message);
  }
});

byId("speak").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = byId("text").value.trim();
  if (!text) return;
  try {
    await connection.invoke("Say", room, text);
    byId("text").value = "";
  } catch (error) {
    addMessage("", error.message);
  }
});

function connectionOf(name) {
  const made = new signalR.HubConnectionBuilder()
    .withUrl(`chat?user=${encodeURIComponent(name)}`)
    .withAutomaticReconnect()
    .build();
  made.on("said", (from, text) => addMessage(from, text));
  made.onreconnecting(() => show("connecting again"));
  // It is a new connection, which is in no room yet.
  made.onreconnected(enter);
  made.onclose((error) => show(error ? error.message : "not connected"));
  return made;
}

async function enter() {
  await connection.invoke("Join", room);
  show(`in ${room}`);
  byId("say").disabled = false;
}

function show(text) {
  byId("status").textContent = text;
  byId("say").disabled = true;
}

// What people write is text, never markup.
function addMessage(from, text) {
  const item = document.createElement("li");
  const author = document.createElement("b");
  author.textContent = from;
  item.append(author, text);
  const list = byId("messages");
  list.append(item);
  list.scrollTop = list.scrollHeight;
}

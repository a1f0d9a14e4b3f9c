"use strict";

const at = (id) => document.getElementById(id);

at("mcp").textContent = `${location.origin}/mcp`;

fetch("/info")
  .then((answer) => answer.json())
  .then((info) => {
    at("state").textContent = `Version ${info.version} on ${info.database}, ${info.operations} operations.`;
  })
  .catch(() => {
    at("state").textContent = "The server does not answer.";
  });

// The token comes in the fragment, which never leaves the browser by itself; it is taken out of the
// address at once, so that it stays in no history.
const token = new URLSearchParams(location.hash.slice(1)).get("setup");
if (token) {
  history.replaceState(null, "", location.pathname);
  at("setup").hidden = false;
}

at("exchange").addEventListener("click", async () => {
  at("exchange").disabled = true;
  at("refused").hidden = true;
  try {
    const answer = await fetch("/setup", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ token }),
    });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error.message);
    at("key").textContent = body.key;
    at("connect").textContent =
      `claude mcp add --transport http opsroom ${location.origin}/mcp --header "Authorization: Bearer ${body.key}"`;
    at("made").hidden = false;
  } catch (error) {
    at("refused").textContent = error.message;
    at("refused").hidden = false;
    at("exchange").disabled = false;
  }
});

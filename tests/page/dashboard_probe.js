// Runs the dashboard's script against a DOM just large enough for it, and prints what it would show as JSON.
const fs = require("fs");
const [html, answers] = [fs.readFileSync(process.argv[2], "utf8"), JSON.parse(fs.readFileSync(process.argv[3], "utf8"))];
class Node {
  constructor(tag) { this.tag = tag; this.children = []; this.text = ""; this.hidden = false; }
  set textContent(value) { this.children = []; this.text = String(value); }
  set innerHTML(_) { throw new Error("markup was set"); }
  append(...nodes) { this.children.push(...nodes); }
  replaceChildren(...nodes) { this.children = nodes; this.text = ""; }
  addEventListener() {}
  get shown() { return [this.text, ...this.children.map((child) => child.shown)].filter(Boolean).join(" | "); }
}
const places = new Map();
const place = (id) => places.get(id) || places.set(id, new Node(id)).get(id);
const asked = [];
globalThis.Node = Node;
globalThis.document = { getElementById: place, createElement: (tag) => new Node(tag), querySelector: () => new Node("form") };
globalThis.sessionStorage = { getItem: () => null, setItem() {} };
globalThis.fetch = async (path) => { asked.push(path); return { status: 200, ok: true, json: async () => answers[path] }; };
globalThis.setTimeout = () => {
  console.log(JSON.stringify({ asked, shown: Object.fromEntries([...places].map(([id, node]) => [id, node.shown])) }));
};
(0, eval)(html.match(/<script>([\s\S]*?)<\/script>/)[1]);

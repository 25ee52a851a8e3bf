"use strict";
const at = (id) => document.getElementById(id);
const data = JSON.parse(at("data").textContent);
const photos = data.photos, served = data.served, shows = new Set(["keep", "preserve"]);
const make = (name, text = "", kind = "") => {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
};

// corrections: by photo a list that is never changed in place, so that undoing is putting an older one back
let corrections = new Map(), rest = [], digest = data.digest;
let current = 0, chosen = -1, pen = null, zoom = 1, changed = 0, stored = 0, saving = false, timer = 0;
const past = [];
const byUri = new Map(photos.map((photo, i) => [photo.uri, i]));
const pictures = new Map();

function take(lines) {
  corrections = new Map();
  rest = [];
  for (const line of lines) {
    const i = byUri.get(line.uri);
    if (i === undefined) rest.push(line);
    else corrections.set(i, [...of(i), line]);
  }
}
const of = (i) => corrections.get(i) || [];
const has = (i, kind) => of(i).find((one) => one.do === kind);
const stale = (i) => of(i).some((one) => one.size !== photos[i].size || one.modified !== photos[i].modified);
const same = (a, b) => a.every((side, n) => Math.abs(side - b[n]) < 0.51);
const ofFace = (one) => Boolean(one.box);

// what is drawn: the faces of the run with what is wanted of them, and the boxes that were added
function items(i) {
  const left = of(i).filter(ofFace), found = [];
  for (const face of photos[i].faces) {
    const n = left.findIndex((one) => same(one.box, face.box));
    const one = n < 0 ? null : left[n];
    if (one && one.do === "add") continue;  // a box that was added before this run, and is drawn below
    if (one) left.splice(n, 1);
    found.push({ box: face.box, face, one, action: one ? (one.do === "remove" ? "removed" : one.action) : face.action });
  }
  for (const one of left) found.push({ box: one.box, face: null, one, action: one.do === "remove" ? "removed" : one.action || "fill" });
  return found;
}
function why(item) {
  if (item.one) return { add: "you drew it", remove: "you took it away: left as it is", action: "you changed it" }[item.one.do];
  if (item.face.rule.startsWith("review:")) return `${item.face.rule}, then; now as the policy says`;
  return item.face.doubted ? `${item.face.rule} (in doubt)` : item.face.rule;
}

// every change of a photo's corrections goes through here
function change(list, choose = chosen) {
  past.push([current, of(current), chosen]);
  corrections.set(current, list);
  chosen = choose;
  touched();
}
function touched() {
  changed += 1;
  tell(served ? "not saved yet" : "not downloaded yet");
  if (served) { clearTimeout(timer); timer = setTimeout(save, 700); }
  draw();
}
function undo() {
  const last = past.pop();
  if (!last) return tell("nothing to undo");
  current = last[0];
  corrections.set(current, last[1]);
  chosen = last[2];
  touched();
  show();
}
function line(kind, more = {}) {
  const photo = photos[current], who = at("who").value.trim();
  const made = { uri: photo.uri, size: photo.size, modified: photo.modified, do: kind };
  if (photo.frame && more.box) made.frame = photo.frame;
  Object.assign(made, more);
  if (who) made.who = who;
  made.when = new Date().toISOString();
  return made;
}
function editable(boxes) {
  const photo = photos[current];
  if (photo.size === null) tell("the original is not where it was: nothing can be said of it", true);
  else if (stale(current)) tell("its corrections are of an earlier state of the photo: clear them first (z)", true);
  else if (boxes && !photo.frame) tell("the size of the photo is not known: no box can be changed", true);
  else return true;
  return false;
}

let agreed = null;
function ask(question, then) {
  agreed = then;
  at("question").textContent = question;
  at("ask").showModal();
  at("no").focus();
}
function answer(yes) {
  const then = agreed;
  agreed = null;
  at("ask").close();
  if (yes && then) then();
}

const without = (item) => of(current).filter((one) => one !== item.one && one.do !== "confirm");
const number = () => chosen + 1;
function setAction(action) {
  const item = items(current)[chosen];
  if (!item || !editable(true)) return;
  if (item.action === action) return;
  const set = () => {
    const kept = without(item), drawn = item.one && item.one.do === "add";
    if (!drawn && item.face && item.face.action === action && !item.face.rule.startsWith("review:")) return change(kept);
    change([...kept, line(drawn ? "add" : "action", { box: item.box, action })], chosen);
    chosen = items(current).findIndex((other) => same(other.box, item.box));
    draw();
  };
  if (shows.has(action)) ask(`Show face ${number()}? It will be seen in the output as it is.`, set);
  else set();
}
function remove() {
  const item = items(current)[chosen];
  if (!item || !editable(true) || item.action === "removed") return;
  if (item.one && item.one.do === "add" && !item.face) return change(without(item), -1);
  ask(`Take box ${number()} away? What is in it will be left as it is: take away only what is no face.`, () =>
    change([...without(item), line("remove", { box: item.box })]));
}
function add(box) {
  const [width, height] = photos[current].frame;
  const clamp = (value, most) => Math.min(Math.max(value, 0), most);
  const x = clamp(box[0], width), y = clamp(box[1], height);
  const right = clamp(box[0] + box[2], width), bottom = clamp(box[1] + box[3], height);
  const round = (value) => Math.round(value * 10) / 10;
  const made = [round(x), round(y), round(right - x), round(bottom - y)];
  if (made[2] < 2 || made[3] < 2) return;
  if (items(current).some((item) => same(item.box, made))) return;
  change([...of(current).filter((one) => one.do !== "confirm"), line("add", { box: made, action: "fill" })]);
  chosen = items(current).findIndex((item) => same(item.box, made));
  draw();
}
function withhold() {
  if (!editable(false)) return;
  const list = of(current).filter((one) => !["withhold", "release", "confirm"].includes(one.do));
  change(has(current, "withhold") ? list : [...list, line("withhold")]);
}
function release() {
  if (!editable(false)) return;
  const list = of(current).filter((one) => !["withhold", "release", "confirm"].includes(one.do));
  if (has(current, "release")) return change(list);
  if (!photos[current].releasable) return tell("only a photo in which a face was still seen can be released", true);
  ask("Release this photo? It will be passed on although a face may still be recognised in it.", () => change([...list, line("release")]));
}
function confirm() {
  if (!editable(false)) return;
  if (!has(current, "confirm")) change([...of(current), line("confirm")]);
  step(1);
}
function clear() {
  if (of(current).length) change([], -1);
}

const listed = () => photos.map((_, i) => i).filter((i) => !at("open").checked || i === current || !has(i, "confirm"));
function step(by) {
  const all = listed(), place = all.indexOf(current) + by;
  if (place < 0 || place >= all.length) return tell(by > 0 ? "that was the last photo" : "this is the first photo");
  current = all[place];
  chosen = -1;
  show();
}
function face(by) {
  const count = items(current).length;
  if (count) chosen = (chosen + by + (chosen < 0 && by < 0 ? 1 : 0) + count) % count;
  draw();
}

async function picture(i) {
  const photo = photos[i];
  if (!served) return photo.picture || "";
  if (!pictures.has(i)) {
    pictures.set(i, (async () => {
      const got = await fetch(`picture/${i}`);
      const frame = got.headers.get("X-Frame");
      if (frame) photo.frame = frame.split(" ").map(Number);
      if (got.headers.get("Content-Type") !== "image/webp") { photo.note = await got.text(); return ""; }
      const blob = await got.blob();
      return new Promise((done) => { const reader = new FileReader(); reader.onload = () => done(reader.result); reader.readAsDataURL(blob); });
    })().catch(() => { pictures.delete(i); photo.note = "the server does not answer"; return ""; }));
    for (const old of [...pictures.keys()].slice(0, -40)) pictures.delete(old);
  }
  return pictures.get(i);
}
async function show() {
  const i = current;
  pen = null;
  zoom = 1;
  draw();
  const source = await picture(i);
  if (i !== current) return;
  if (source) at("picture").src = source;
  else at("picture").removeAttribute("src");
  at("picture").classList.toggle("hidden", !source);
  at("sheet").classList.toggle("empty", !source);
  at("note").textContent = source ? "" : photos[i].note || "";
  draw();
  if (served && i + 1 < photos.length) picture(i + 1);
}

const shape = (name, values) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(values)) made.setAttribute(key, value);
  return made;
};
const rect = (box, kind) => shape("rect", { x: box[0], y: box[1], width: box[2], height: box[3], class: kind });

function fit() {
  const [width, height] = photos[current].frame || [4, 3], stage = at("stage");
  const scale = Math.min((stage.clientWidth - 24) / width, (stage.clientHeight - 24) / height) * zoom;
  at("sheet").style.width = `${width * scale}px`;
  at("sheet").style.height = `${height * scale}px`;
  return scale;
}
function draw() {
  const photo = photos[current], found = items(current), scale = fit(), svg = at("boxes");
  if (chosen >= found.length) chosen = -1;
  svg.setAttribute("viewBox", `0 0 ${(photo.frame || [4, 3]).join(" ")}`);
  svg.replaceChildren();
  if (photo.frame) {
    for (const place of photo.places) svg.append(rect(place, "place"));
    found.forEach((item, n) => {
      const kind = [item.action, item.one && item.one.do === "add" ? "drawn" : "", n === chosen ? "selected" : ""].join(" ");
      svg.append(rect(item.box, "under"), rect(item.box, kind));
      const text = shape("text", { x: item.box[0] + 3 / scale, y: item.box[1] - 4 / scale, "font-size": 1 });
      text.style.fontSize = `${13 / scale}px`;
      text.style.strokeWidth = `${3 / scale}px`;
      text.textContent = n + 1;
      svg.append(text);
    });
    if (pen) svg.append(rect(pen, "under"), rect(pen, "fill drawn selected"));
  }
  side(photo, found);
  list();
}
function side(photo, found) {
  at("name").textContent = photo.uri;
  const states = { withhold: "you withhold it", release: "you release it", confirm: "confirmed" };
  at("doubts").replaceChildren(...photo.doubts.map((doubt) => make("span", doubt, "chip")),
    ...Object.entries(states).filter(([kind]) => has(current, kind)).map(([, text]) => make("span", text, "chip review")),
    ...(stale(current) ? [make("span", "corrections of an earlier state", "chip bad")] : []));
  at("message").textContent = photo.message;
  at("faces").tBodies[0].replaceChildren(...found.map((item, n) => {
    const row = make("tr"), action = make("td", "", "text");
    action.append(make("span", "", `dot ${item.action}`), item.action === "removed" ? "taken away" : item.action);
    const score = item.face && item.face.score !== null ? item.face.score.toFixed(2) : "";
    row.append(make("td", n + 1), action, make("td", why(item), "text"), make("td", score, score && score < 0.6 ? "bad" : ""));
    row.setAttribute("aria-selected", n === chosen);
    row.addEventListener("click", () => { chosen = n; draw(); });
    return row;
  }));
  const row = at("faces").tBodies[0].rows[chosen];
  if (row) row.scrollIntoView({ block: "nearest" });
  for (const button of at("actions").children) button.disabled = chosen < 0;
  at("remove").disabled = chosen < 0;
  at("release").disabled = !photo.releasable;
  at("withhold").firstChild.textContent = has(current, "withhold") ? "do not withhold " : "withhold ";
  at("release").firstChild.textContent = has(current, "release") ? "do not release " : "release ";
  at("clear").disabled = !of(current).length;
  at("undo").disabled = !past.length;
  const done = photos.filter((_, i) => has(i, "confirm")).length;
  const wanted = [...corrections.values()].flat().filter((one) => one.do !== "confirm").length;
  at("progress").textContent = `${done} of ${photos.length} confirmed, ${wanted === 1 ? "1 correction" : `${wanted} corrections`}`;
}
function list() {
  const all = listed(), place = all.indexOf(current), from = Math.max(0, place - 150), part = all.slice(from, place + 150);
  const entries = part.map((i) => {
    const button = make("button"), name = photos[i].uri.split("/").pop();
    button.type = "button";
    button.title = photos[i].uri;
    if (i === current) button.setAttribute("aria-current", "true");
    const corrected = of(i).some((one) => one.do !== "confirm");
    if (has(i, "confirm")) button.append(make("span", "✓", "mark"));
    else if (corrected) button.append(make("span", "✎", "mark changed"));
    const about = photos[i].doubts.length ? photos[i].doubts.join(", ") : photos[i].faces.length === 1 ? "1 face" : `${photos[i].faces.length} faces`;
    button.append(make("b", name), make("small", about));
    button.addEventListener("click", () => { current = i; chosen = -1; show(); });
    return button;
  });
  if (from) entries.unshift(make("p", `${from} before these`));
  if (from + part.length < all.length) entries.push(make("p", `${all.length - from - part.length} more`));
  at("list").replaceChildren(...entries);
  const here = at("list").querySelector("[aria-current]");
  if (here) here.scrollIntoView({ block: "nearest" });
}

const text = () => [...[...corrections.keys()].sort((a, b) => a - b).flatMap((i) => of(i)), ...rest].map((one) => `${JSON.stringify(one)}\n`).join("");
function tell(words, bad = false) {
  at("told").textContent = words;
  at("told").classList.toggle("bad", bad);
}
async function save() {
  clearTimeout(timer);
  const upTo = changed;
  if (!served) {
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([text()], { type: "application/jsonl" }));
    link.download = "corrections.jsonl";
    link.click();
    stored = upTo;
    return tell("downloaded");
  }
  if (saving) { timer = setTimeout(save, 300); return undefined; }
  saving = true;
  try {
    const got = await fetch("corrections", { method: "POST", body: text(), headers: { "Content-Type": "application/jsonl", "If-Match": digest } });
    const said = (await got.text()).trim();
    if (got.ok) {
      digest = said;
      stored = upTo;
      tell(stored === changed ? "saved" : "not saved yet");
    } else tell(`not saved: ${said}`, true);
  } catch {
    tell("not saved: the server does not answer; s tries again", true);
  } finally {
    saving = false;
  }
  return undefined;
}
async function load() {
  const file = at("file").files[0];
  if (!file) return;
  try {
    const lines = (await file.text()).split("\n").filter((one) => one.trim()).map((one) => JSON.parse(one));
    if (!lines.every((one) => one && typeof one.uri === "string" && typeof one.do === "string")) throw new Error("no corrections");
    if (stored < changed) return tell("download your own corrections first: opening others would drop them", true);
    take(lines);
    past.length = 0;
    tell(`${lines.length} corrections opened`);
    draw();
  } catch (error) {
    tell(`${file.name}: ${error.message}`, true);
  }
  at("file").value = "";
}

// drawing: by dragging, or by the arrow keys
function point(event) {
  const area = at("boxes").getBoundingClientRect(), [width, height] = photos[current].frame;
  return [((event.clientX - area.left) / area.width) * width, ((event.clientY - area.top) / area.height) * height];
}
let start = null;
at("boxes").addEventListener("pointerdown", (event) => {
  if (!photos[current].frame || event.button !== 0) return;
  start = point(event);
  at("boxes").setPointerCapture(event.pointerId);
});
at("boxes").addEventListener("pointermove", (event) => {
  if (!start) return;
  const [x, y] = point(event);
  pen = [Math.min(x, start[0]), Math.min(y, start[1]), Math.abs(x - start[0]), Math.abs(y - start[1])];
  draw();
});
at("boxes").addEventListener("pointerup", () => {
  const drawn = pen, from = start, scale = fit();
  start = pen = null;
  if (drawn && Math.max(drawn[2], drawn[3]) * scale >= 5) {
    if (editable(true)) add(drawn);
  } else if (from) {
    const inside = items(current).map((item, n) => [item.box, n])
      .filter(([box]) => from[0] >= box[0] && from[0] <= box[0] + box[2] && from[1] >= box[1] && from[1] <= box[1] + box[3])
      .sort(([a], [b]) => a[2] * a[3] - b[2] * b[3]);
    chosen = inside.length ? inside[0][1] : -1;
  }
  draw();
});
at("boxes").addEventListener("pointercancel", () => { start = pen = null; draw(); });
function penDown() {
  if (!editable(true)) return;
  const [width, height] = photos[current].frame, side = Math.min(width, height) / 8;
  pen = [(width - side) / 2, (height - side) / 2, side, side];
  draw();
}
function movePen(key, size) {
  const by = Math.max(1, Math.min(...photos[current].frame) / 100);
  const [x, y] = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] }[key];
  if (size) { pen[2] = Math.max(2, pen[2] + x); pen[3] = Math.max(2, pen[3] + y); } else { pen[0] += x; pen[1] += y; }
  draw();
}
function larger(by) {
  zoom = by ? Math.min(16, Math.max(1, zoom * by)) : 1;
  draw();
  const item = items(current)[chosen];
  if (!item) return;
  const stage = at("stage"), scale = at("sheet").clientWidth / photos[current].frame[0];
  stage.scrollTo((item.box[0] + item.box[2] / 2) * scale - stage.clientWidth / 2, (item.box[1] + item.box[3] / 2) * scale - stage.clientHeight / 2);
}

const keys = {
  ArrowDown: () => step(1), ArrowUp: () => step(-1),
  ArrowRight: () => face(1), ArrowLeft: () => face(-1), a: penDown, x: remove, Delete: remove,
  w: withhold, r: release, c: confirm, u: undo, z: clear, s: save,
  f: () => { at("open").checked = !at("open").checked; draw(); },
  "+": () => larger(1.5), "=": () => larger(1.5), "-": () => larger(1 / 1.5), 0: () => larger(0),
};
document.addEventListener("keydown", (event) => {
  if (at("ask").open) {
    if (event.key === "y") answer(true);
    else if (event.key === "n") answer(false);
    else return;
    event.preventDefault();
    return;
  }
  if (event.target.matches("input[type=text]")) {
    if (event.key === "Enter" || event.key === "Escape") event.target.blur();
    return;
  }
  if (event.ctrlKey || event.metaKey) {
    const wanted = { z: undo, s: save }[event.key];
    if (wanted) { event.preventDefault(); wanted(); }
    return;
  }
  if (event.altKey) return;
  if (pen && !start) {
    if (event.key.startsWith("Arrow")) movePen(event.key, event.shiftKey);
    else if (event.key === "Enter") { const drawn = pen; pen = null; add(drawn); }
    else if (event.key === "Escape") { pen = null; draw(); }
    else return;
    event.preventDefault();
    return;
  }
  const n = Number(event.key);
  const wanted = keys[event.key] || (n >= 1 && n <= data.actions.length ? () => setAction(data.actions[n - 1]) : null);
  if (!wanted) return;
  event.preventDefault();
  wanted();
});

data.actions.forEach((action, n) => {
  const button = make("button");
  button.type = "button";
  button.append(make("span", "", `dot ${action}`), `${action} `, make("kbd", n + 1));
  button.addEventListener("click", () => setAction(action));
  at("actions").append(button);
});
const clicks = { undo, save, remove, confirm, add: penDown, withhold, release, clear };
for (const [id, then] of Object.entries(clicks)) at(id).addEventListener("click", () => { then(); at(id).blur(); });
at("open").addEventListener("change", () => { at("open").blur(); draw(); });
at("yes").addEventListener("click", () => answer(true));
at("no").addEventListener("click", () => answer(false));
at("ask").addEventListener("cancel", () => { agreed = null; });
if (!served) {
  at("load").addEventListener("click", () => at("file").click());
  at("file").addEventListener("change", load);
}
addEventListener("resize", draw);
addEventListener("beforeunload", (event) => { if (stored < changed) event.preventDefault(); });
take(data.corrections);
if (photos.length) show();
else tell("there is no photo to review");

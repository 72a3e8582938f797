import { Player } from "./player.js";
import { Recorder, LONGEST } from "./recorder.js";
import { Verdicts, VERDICTS } from "./verdicts.js";
import { View, clock, lanesOf, segmentsOf } from "./view.js";

const ROWS = 200; // of the table at first
const UPLOADS = 2; // at a time
const MANY = 2000; // windows, from which on the results are drawn once a second
const NARROW = 600; // px; there the lists would fill the screen
const $ = (id) => document.getElementById(id);

history.replaceState(null, "", location.pathname); // a token does not stay in the address
const about = await (await fetch("api/about")).json();
const view = new View(about, $("spectrogram"), $("timeline"));
const player = new Player(about.longest_wav, playerChanged);
const verdicts = new Verdicts(ask, () => { if (!pressing) listSegments(); }, complain);
let recordings = [], shown = null, windows = [], stream = null, rows = ROWS, stale = false;
let uploads = []; // {file, sent, problem}

$("model").textContent = `${about.model}: ${about.classes.length} classes, windows of ${about.window.toFixed(1)} s`;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function complain(text) {
  $("alert").textContent = text;
  $("alert").hidden = !text;
}

async function ask(path, options) {
  const answer = await fetch(path, options).catch(() => { throw new Error("The server does not answer."); });
  if (answer.ok) return answer;
  const text = await answer.text();
  let reason = text;
  try { reason = JSON.parse(text).error; } catch { /* it is plain text */ }
  throw new Error(reason || `The server answers ${answer.status}.`);
}

// What happens on the server

function follow() {
  stream?.close();
  windows = [];
  verdicts.reset(shown);
  stream = new EventSource(`api/events${shown ? `?shown=${shown}` : ""}`);
  stream.onopen = () => {
    windows = []; // all come again
    verdicts.revision = -1;
    if (lost) complain("");
    lost = false;
  };
  stream.onerror = () => {
    lost = true;
    complain(stream.readyState === EventSource.CLOSED
      ? "The server refuses this page. Open the address that it printed when it started."
      : "The server does not answer. This page goes on when it does.");
  };
  stream.addEventListener("recordings", (event) => {
    recordings = JSON.parse(event.data);
    if (!pressing) listRecordings();
  });
  stream.addEventListener("verdicts", (event) => {
    verdicts.take(JSON.parse(event.data));
    if (!pressing) listSegments();
  });
  stream.addEventListener("windows", (event) => {
    windows.push(...JSON.parse(event.data));
    if (stale) return;
    stale = true; // many come at once
    setTimeout(() => {
      stale = false;
      if (!pressing) showResults();
    }, windows.length < MANY ? 120 : 1000);
  });
}
let lost = false;

// What is under a finger that is down is not replaced: it would not be clicked.
let pressing = false;
addEventListener("pointerdown", () => { pressing = true; }, true);
for (const name of ["pointerup", "pointercancel"]) {
  addEventListener(name, () => setTimeout(() => {
    pressing = false;
    listRecordings();
    showResults();
  }, 50), true);
}

function listRecordings() {
  $("opened").hidden = !recordings.length && !uploads.length;
  const focused = document.activeElement?.dataset?.focus;
  const items = [...uploads.map(uploadItem), ...recordings.toReversed().map(recordingItem)];
  $("recordings").replaceChildren(...items);
  if (focused) $("recordings").querySelector(`[data-focus="${focused}"]`)?.focus();
  const now = recordings.find((each) => each.id === shown);
  if (shown && !now) show(null);
  else if (now) describe(now);
}

function recordingItem(each) {
  const busy = each.state === "running" || each.state === "waiting";
  const state = element("span", { className: `state ${each.state}` });
  if (busy) {
    state.append(element("progress", { value: each.heard, max: 1, ariaLabel: "analysed" }), ` ${Math.round(each.heard * 100)} %`);
  } else if (each.state === "failed") {
    state.textContent = each.error;
  } else {
    const best = each.best.map(([name, p]) => `${name} ${Math.round(p * 100)} %`).join(", ");
    state.textContent = (each.state === "cancelled" ? "cancelled. " : "") + best;
  }
  const open = element("button", { type: "button", className: "plain", onclick: () => show(each.id) },
    element("strong", { textContent: each.name }), ` ${clock(each.seconds, 0)}`, state);
  open.dataset.focus = each.id;
  const end = element("button", { type: "button", textContent: busy ? "Cancel" : "Close", ariaLabel: `${busy ? "Cancel" : "Close"} ${each.name}` });
  end.dataset.focus = `end-${each.id}`;
  const request = busy ? [`api/recordings/${each.id}/cancel`, { method: "POST" }] : [`api/recordings/${each.id}`, { method: "DELETE" }];
  end.onclick = () => ask(...request).catch((error) => complain(error.message));
  const item = element("li", { className: each.id === shown ? "current" : "" }, open, end);
  if (each.id === shown) open.setAttribute("aria-current", "true");
  return item;
}

// Uploads

function uploadItem(upload) {
  const state = element("span", { className: `state ${upload.problem ? "failed" : ""}` });
  if (upload.problem) state.textContent = upload.problem;
  else state.append(element("progress", { value: upload.sent, max: 1, ariaLabel: "uploaded" }), " uploading");
  const end = element("button", { type: "button", textContent: upload.problem ? "Close" : "Cancel", ariaLabel: `Cancel ${upload.file.name}` });
  end.onclick = () => {
    upload.request?.abort();
    drop(upload);
  };
  return element("li", {}, element("span", {}, element("strong", { textContent: upload.file.name }), state), end);
}

function drop(upload) {
  uploads = uploads.filter((each) => each !== upload);
  listRecordings();
  sendNext();
}

function add(files) {
  complain("");
  for (const file of files) {
    const problem = file.size > about.upload_bytes ? `larger than ${about.upload_bytes / 2 ** 30} GiB: start the server with its folder instead` : file.size ? "" : "empty";
    uploads.push({ file, sent: 0, problem, request: null });
  }
  listRecordings();
  sendNext();
}

function sendNext() {
  const waiting = uploads.filter((each) => !each.problem && !each.request);
  const running = uploads.filter((each) => !each.problem && each.request).length;
  waiting.slice(0, Math.max(0, UPLOADS - running)).forEach(send);
}

function send(upload) {
  const request = (upload.request = new XMLHttpRequest()); // fetch does not tell how much was sent
  request.open("POST", `api/recordings?name=${encodeURIComponent(upload.file.name)}`);
  request.upload.onprogress = ({ loaded, total }) => {
    upload.sent = total ? loaded / total : 0;
    listRecordings();
  };
  request.onload = () => {
    let answer = {};
    try { answer = JSON.parse(request.responseText); } catch { answer.error = request.responseText; }
    if (request.status === 201) {
      if (!recordings.some((each) => each.id === answer.id)) recordings.push(answer);
      if (uploads.length === 1 || !shown) show(answer.id);
      drop(upload);
    } else fail(answer.error || `the server answers ${request.status}`);
  };
  request.onerror = () => fail("the server does not answer, or refused the file");
  const fail = (reason) => {
    upload.problem = reason;
    listRecordings();
    sendNext();
  };
  request.send(upload.file);
}

$("choose").onclick = () => $("files").click();
$("files").onchange = () => {
  add($("files").files);
  $("files").value = "";
};
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  add(event.dataTransfer.files);
});

// The microphone

const recorder = new Recorder((seconds) => {
  $("hint").textContent = `recording, ${clock(seconds, 0)} of up to ${clock(LONGEST, 0)}`;
  if (seconds >= LONGEST) endRecording();
});

async function endRecording() {
  const file = await recorder.stop();
  $("record").textContent = "Record";
  $("hint").textContent = "or drop recordings anywhere";
  if (file) add([file]);
}

$("record").hidden = !navigator.mediaDevices; // browsers offer it to this machine's own pages alone
$("record").onclick = async () => {
  if (recorder.running) return endRecording();
  complain("");
  try {
    await recorder.start();
    $("record").textContent = "Stop";
  } catch (error) {
    complain(`The microphone cannot be used: ${error.message}`);
  }
};

// The folder

async function browse(path) {
  const below = await (await ask(`api/folder?path=${encodeURIComponent(path)}`)).json();
  const join = (name) => (below.path ? `${below.path}/${name}` : name);
  const entry = (text, onclick) => element("li", {}, element("button", { type: "button", className: "plain", textContent: text, onclick }));
  const parent = below.path ? [entry("↑ up", () => go(below.path.split("/").slice(0, -1).join("/")))] : [];
  const left = below.left_out ? [element("li", { className: "quiet", textContent: `${below.left_out} more are not listed` })] : [];
  const nothing = below.folders.length + below.files.length ? [] : [element("li", { className: "quiet", textContent: "no recordings" })];
  $("below").textContent = below.path;
  $("entries").replaceChildren(...parent, ...below.folders.map((name) => entry(`${name}/`, () => go(join(name)))),
    ...below.files.map((name) => entry(name, () => openPath(join(name)))), ...left, ...nothing);
}

function go(path) {
  browse(path).then(() => $("entries").querySelector("button")?.focus(), (error) => complain(error.message));
}

async function openPath(path) {
  complain("");
  try {
    const opened = await (await ask(`api/recordings/open?path=${encodeURIComponent(path)}`, { method: "POST" })).json();
    if (!recordings.some((each) => each.id === opened.id)) recordings.push(opened);
    show(opened.id);
  } catch (error) {
    complain(error.message);
  }
}

// One recording

function show(id) {
  if (id === shown && id) return;
  shown = id;
  const recording = recordings.find((each) => each.id === id);
  player.reset(id, recording?.seconds ?? 0);
  $("shown").hidden = !recording;
  rows = ROWS;
  if (recording) {
    $("name").textContent = recording.name;
    $("view").setAttribute("aria-valuemax", recording.seconds);
    view.show(recording);
    moveTo(0);
    if (innerWidth < NARROW) $("name").scrollIntoView();
  } else view.show(null);
  follow();
  showResults();
  listRecordings();
}

function describe(recording) {
  const state = { running: `analysed up to ${Math.round(recording.heard * 100)} %`, waiting: "waits", done: "analysed", cancelled: "cancelled", failed: recording.error }[recording.state];
  $("facts").textContent = `${clock(recording.seconds)}, ${recording.sample_rate.toLocaleString("en")} Hz, ${state}`;
}

function showResults() {
  if (!shown) return;
  const threshold = Number($("threshold").value);
  $("least").textContent = threshold.toFixed(2);
  view.lanes = lanesOf(windows, about.classes);
  view.segments = segmentsOf(windows, about.classes, threshold);
  view.redraw();
  $("download").href = `api/recordings/${shown}/detections?format=${$("format").value}&threshold=${threshold}`;
  listSegments(threshold);
}

function listSegments(threshold = Number($("threshold").value)) {
  const count = view.segments.length, highest = view.lanes[0];
  const none = highest ? `No class reaches ${threshold.toFixed(2)}; the highest is ${highest.name}, ${Math.max(...maximum(highest.values)).toFixed(2)}.` : "";
  $("count").textContent = count ? `${count} ${count === 1 ? "segment" : "segments"}; click one to hear it.` : none;
  $("segments").hidden = $("row-keys").hidden = !count;
  const [body] = $("segments").tBodies, row = document.activeElement?.closest("#segments tbody tr");
  const focused = row && [row.sectionRowIndex, [...row.querySelectorAll("button")].indexOf(document.activeElement)];
  body.replaceChildren(...view.segments.slice(0, rows).map(segmentRow));
  if (focused) body.rows[focused[0]]?.querySelectorAll("button")[focused[1]].focus();
  $("judged").textContent = verdicts.words(view.segments, about.verdicts);
  $("take").hidden = !verdicts.count;
  $("more").hidden = count <= rows;
}

function maximum(values) {
  return [values.reduce((most, each) => Math.max(most, each), 0)];
}

function segmentRow(segment) {
  const hear = element("button", { type: "button", className: "plain", textContent: segment.name, ariaLabel: `Hear ${segment.name} from ${clock(segment.start)} to ${clock(segment.end)}` });
  const row = element("tr", { onclick: () => playSegment(segment) },
    element("td", { textContent: clock(segment.start) }), element("td", { textContent: clock(segment.end) }),
    element("td", { className: "text" }, hear), element("td", { textContent: segment.value.toFixed(2) }),
    element("td", { className: "verdict" }, verdictButtons(segment)));
  row.onkeydown = (event) => rowKey(event, row, segment);
  return row;
}

function verdictButtons(segment) {
  const kept = verdicts.kept(segment), last = verdicts.last(segment);
  const group = element("span", { className: "choice", role: "group", ariaLabel: `Verdict on ${segment.name} from ${clock(segment.start)}` });
  group.onclick = (event) => event.stopPropagation(); // which is not to play it
  for (const verdict of VERDICTS) {
    const button = element("button", { type: "button", textContent: verdict, ariaPressed: verdict === kept, className: verdict });
    button.classList.toggle("sent", verdict === last && last !== kept);
    button.onclick = () => verdicts.give(segment, verdict === last ? "" : verdict);
    group.append(button);
  }
  if (kept && !VERDICTS.includes(kept)) group.append(element("strong", { textContent: kept })); // a class's name
  return group;
}

function rowKey(event, row, segment) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const next = { ArrowDown: row.nextElementSibling, ArrowUp: row.previousElementSibling }[event.key];
  const verdict = { y: "yes", n: "no", u: "unsure", delete: "", backspace: "" }[event.key.toLowerCase()];
  if (next) next.querySelector("button").focus();
  else if (verdict !== undefined) verdicts.give(segment, verdict);
  else return;
  event.preventDefault();
}

function playSegment(segment) {
  player.playSpan(segment.start, segment.end);
  view.reveal(segment.start);
  follow_sound();
}

$("threshold").oninput = showResults;
$("format").onchange = showResults;
$("format").append(...about.formats.map((name) => element("option", { value: name, textContent: name })));
$("format").value = "csv";
$("more").onclick = () => {
  rows *= 4;
  showResults();
};

// Cursor and sound

function moveTo(time) {
  view.cursor = Math.max(0, Math.min(time, view.recording.seconds));
  $("time").textContent = clock(view.cursor);
  $("view").setAttribute("aria-valuenow", view.cursor.toFixed(2));
  $("view").setAttribute("aria-valuetext", `${clock(view.cursor)} of ${clock(view.recording.seconds)}`);
  view.redraw();
  lookAt();
}

function seek(time) {
  moveTo(time);
  view.reveal(view.cursor);
  if (player.playing) player.play(view.cursor);
}

function toggle() {
  if (player.playing) player.pause();
  else player.play(view.cursor >= view.recording.seconds - 0.05 ? 0 : view.cursor);
}

function playerChanged() {
  $("play").textContent = player.playing ? "Pause" : "Play";
  if (player.failed) complain("The sound of this part cannot be read.");
  if (player.playing) follow_sound();
}

let following = false;
function follow_sound() {
  if (following) return;
  following = true;
  const step = () => {
    if (!player.playing || !view.recording) {
      following = false;
      return;
    }
    moveTo(player.time);
    view.reveal(view.cursor);
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

// Attention over the window under the cursor

let looking = null; // start of the window that is asked for
async function lookAt() {
  const on = $("attention").checked && view.recording;
  const hop = about.window / 2;
  const last = Math.max(0, (view.recording?.seconds ?? 0) - about.window);
  const start = Math.min(Math.max(0, Math.floor(view.cursor / hop - 0.5) * hop), last);
  if (!on) {
    looking = view.attention = null;
    return;
  }
  const key = `${shown} ${start}`;
  if (looking === key) return;
  looking = key;
  try {
    const found = await (await ask(`api/recordings/${shown}/attention?start=${start.toFixed(6)}`)).json();
    if (looking === key) view.attention = found;
    view.redraw();
  } catch (error) {
    $("attention").checked = false;
    complain(error.message);
  }
}
$("attention").onchange = () => {
  lookAt();
  view.redraw();
};

// Mouse, touch, keys

const pointers = new Map();
let dragged = false;
$("view").onpointerdown = (event) => {
  $("view").setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, event.clientX);
  dragged = pointers.size > 1;
};
$("view").onpointermove = (event) => {
  if (!pointers.has(event.pointerId)) return;
  const before = [...pointers.values()], moved = event.clientX - pointers.get(event.pointerId);
  if (pointers.size === 1 && !dragged && Math.abs(moved) < 4) return;
  dragged = true;
  pointers.set(event.pointerId, event.clientX);
  const now = [...pointers.values()];
  if (pointers.size === 2) {
    const spread = (values) => Math.max(20, Math.abs(values[0] - values[1]));
    view.zoom(spread(before) / spread(now), view.timeAt((now[0] + now[1]) / 2 - $("view").getBoundingClientRect().left));
  } else view.scrollTo(view.start - moved * view.scale);
};
$("view").onpointerup = (event) => {
  if (pointers.delete(event.pointerId) && !dragged) {
    const box = $("timeline").getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    const segment = y >= 0 ? view.segmentAt(x, y) : null;
    if (segment) playSegment(segment);
    else seek(view.timeAt(x));
  }
};
$("view").onpointercancel = (event) => pointers.delete(event.pointerId);
$("view").addEventListener("wheel", (event) => {
  const sideways = event.shiftKey ? event.deltaY : event.deltaX;
  if (event.ctrlKey || event.metaKey) {
    view.zoom(Math.exp(Math.max(-100, Math.min(100, event.deltaY)) / 200), view.timeAt(event.clientX - $("view").getBoundingClientRect().left));
  } else if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
    view.scrollTo(view.start + sideways * view.scale);
  } else return;
  event.preventDefault();
}, { passive: false });

const KEYS = {
  ArrowLeft: (far) => seek(view.cursor - (view.length / 50) * far),
  ArrowRight: (far) => seek(view.cursor + (view.length / 50) * far),
  Home: () => seek(0),
  End: () => seek(view.recording.seconds),
  PageUp: () => view.scrollTo(view.start - view.length * 0.9),
  PageDown: () => view.scrollTo(view.start + view.length * 0.9),
  "+": () => view.zoom(0.5),
  "=": () => view.zoom(0.5),
  "-": () => view.zoom(2),
  0: () => view.fit(),
  " ": toggle,
};
$("view").onkeydown = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  KEYS[event.key](event.shiftKey ? 5 : 1);
  event.preventDefault();
};
$("play").onclick = toggle;
$("in").onclick = KEYS["+"];
$("out").onclick = KEYS["-"];
$("fit").onclick = KEYS[0];

if (about.folder) {
  $("browser").hidden = false;
  $("browser").open = true;
  browse("").catch((error) => complain(error.message));
}
follow();

// The page of `thaw serve`. `take` has an image asked about, `draw` shows the answer of the chosen checkpoint.
"use strict";

const element = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)} %`;

let checkpoints = [];
let maxBytes = 0;
let chosen = 0;
// Name of the class whose regions are shown; null for the most probable one.
let explained = null;
// Its name and content; null without one.
let image = null;
// Promises of answers to `image`, and the answers that are here, by `key`.
let asked = new Map();
let answers = new Map();
let failures = new Map();

function node(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// The class to ask a checkpoint for: not every checkpoint has the same.
const classFor = (number) => (checkpoints[number].classes.includes(explained) ? explained : null);
const key = (number, of) => JSON.stringify([number, of]);
const current = () => key(chosen, classFor(chosen));

async function post(number, of, content) {
  const query = of === null ? "" : `?of=${encodeURIComponent(of)}`;
  let response;
  try {
    response = await fetch(`ask/${number}${query}`, { method: "POST", body: content });
  } catch {
    throw new Error("the server does not answer; is `thaw serve` still running?");
  }
  const text = await response.text();
  let answer = {};
  try {
    answer = JSON.parse(text);
  } catch {
    // Told below by the status.
  }
  if (!response.ok) throw new Error(answer.error || `the server failed (${response.status})`);
  return answer;
}

function ask(number, of) {
  const name = key(number, of);
  if (!asked.has(name)) {
    const [content, here, failed] = [image.content, answers, failures];
    failed.delete(name);
    asked.set(name, post(number, of, content).then(
      (answer) => here.set(name, answer),
      (error) => {
        failed.set(name, error.message);
        // A second try is possible, by choosing it again.
        if (here === answers) asked.delete(name);
      },
    ).then(() => { if (here === answers) draw(); }));
  }
  return asked.get(name);
}

async function take(file) {
  if (!file || !checkpoints.length) return;
  [image, explained] = [null, null];
  [asked, answers, failures] = [new Map(), new Map(), new Map()];
  const here = answers;
  const size = `${file.name}: a file of ${(file.size / 1e6).toFixed(1)} MB; accepted: ${maxBytes / 1e6} MB, by --max-mb`;
  fail(file.size > maxBytes ? size : null);
  draw();
  if (file.size > maxBytes) return;
  let content;
  try {
    content = await file.arrayBuffer();
  } catch {
    if (here === answers) fail(`${file.name}: the browser cannot read it; accepted: an image file, no folder`);
    return;
  }
  if (here !== answers) return; // another image has come since
  image = { name: file.name, content };
  draw();
  await ask(chosen, null);
  if (here !== answers) return;
  if (failures.has(key(chosen, null)) && !answers.size) return;
  for (let number = 0; number < checkpoints.length && here === answers; number++) await ask(number, null);
}

function fail(message) {
  element("message").textContent = message || "";
  element("message").hidden = !message;
}

function choose(number) {
  chosen = number;
  if (image) ask(chosen, classFor(chosen));
  draw();
}

function explain(name) {
  explained = name;
  ask(chosen, classFor(chosen));
  draw();
}

function draw() {
  const failure = failures.get(current());
  if (failure) fail(image.name ? `${image.name}: ${failure}` : failure);
  else if (image) fail(null);
  drawCheckpoints();
  // Until the answer about another class is here, the one before stays.
  const answer = answers.get(current()) || answers.get(key(chosen, null));
  const busy = image !== null && !answers.has(current()) && !failure;
  document.body.classList.toggle("asking", busy);
  element("drop").classList.toggle("small", image !== null);
  drawImage(answer, busy);
  drawClasses(answer, busy);
}

function drawCheckpoints() {
  checkpoints.forEach((checkpoint, number) => {
    const says = element(`says-${number}`);
    const answer = answers.get(key(number, null));
    const failed = failures.has(key(number, null));
    says.classList.toggle("failed", failed);
    // After the first refusal of an image, the others are not asked.
    const waits = image !== null && (answers.size > 0 || failures.size === 0);
    says.textContent = failed ? "no answer" : waits ? "…" : "";
    if (answer) says.textContent = `${answer.classes[0].name}, ${percent(answer.classes[0].probability)}`;
  });
}

function drawImage(answer, busy) {
  for (const id of ["shown", "network"]) {
    element(id).hidden = !answer;
    element(id).classList.toggle("busy", busy);
  }
  if (!answer) return;
  element("image").src = answer.image;
  element("image").alt = "The central square of the image, which the network sees";
  element("heat").hidden = !answer.heat;
  if (answer.heat) element("heat").src = answer.heat;
  element("heat").alt = `Regions that support ${answer.explained}`;
  element("caption").textContent = answer.heat
    ? `Bright: supports ${answer.explained} (Grad-CAM)`
    : `No region supports ${answer.explained} (Grad-CAM)`;
  element("input").src = answer.input;
  const side = checkpoints[chosen].input_size;
  element("size").textContent = `What the network gets: the central square, ${side} × ${side} pixels`;
}

function drawClasses(answer, busy) {
  const { name, classes } = checkpoints[chosen];
  element("heading").textContent = `Classes by ${name}`;
  element("classes").classList.toggle("busy", busy);
  const more = answer && classes.length > answer.classes.length ? `The first ${answer.classes.length} of ${classes.length}. ` : "";
  element("hint").textContent = answer
    ? `${more}Choose a class to see the regions that support it.`
    : busy ? "Computing; the first answer of a checkpoint takes some seconds." : image ? "No answer." : "No image yet.";
  const focused = document.activeElement?.dataset?.name;
  element("classes").replaceChildren(...(answer ? answer.classes.map((one) => row(one, answer.explained)) : []));
  if (focused) [...document.querySelectorAll("#classes button")].find((one) => one.dataset.name === focused)?.focus();
}

function row({ name, probability }, shown) {
  const [item, button, bar, filled] = [node("li"), node("button"), node("span", "bar"), node("span")];
  button.type = "button";
  button.dataset.name = name;
  button.setAttribute("aria-pressed", String(name === shown));
  button.addEventListener("click", () => explain(name));
  filled.style.width = `${100 * probability}%`;
  bar.append(filled);
  button.append(node("span", "", name), bar, node("span", "number", percent(probability)));
  item.append(button);
  return item;
}

function card(checkpoint, number) {
  const [label, radio] = [node("label", "card"), node("input")];
  radio.type = "radio";
  radio.name = "checkpoint";
  radio.checked = number === chosen;
  radio.addEventListener("change", () => choose(number));
  const accuracy = checkpoint.val_accuracy === null ? "" : `, validation accuracy ${percent(checkpoint.val_accuracy)}`;
  const says = node("span", "says");
  says.id = `says-${number}`;
  label.append(radio, node("span", "name", checkpoint.name), node("span", "soft", `${checkpoint.backbone}${accuracy}`));
  if (checkpoint.thawed) label.append(node("span", "soft", `trained: ${checkpoint.thawed}`));
  label.append(says);
  return label;
}

function listen() {
  const drop = element("drop");
  // Anywhere on the page: a file that is dropped beside the frame would replace the page.
  for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
  addEventListener("dragover", () => drop.classList.add("over"));
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  addEventListener("drop", (event) => {
    drop.classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => take(event.clipboardData.files[0]));
  element("file").addEventListener("change", (event) => {
    take(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  });
  const mix = () => { element("heat").style.opacity = String(element("strength").value / 100); };
  element("strength").addEventListener("input", mix);
  mix();
}

async function start() {
  listen();
  try {
    const content = await (await fetch("checkpoints")).json();
    [checkpoints, maxBytes] = [content.checkpoints, content.max_bytes];
  } catch {
    fail("the server does not answer; is `thaw serve` still running?");
    return;
  }
  chosen = checkpoints.length - 1;
  element("checkpoints").replaceChildren(...checkpoints.map(card));
  draw();
}

start();

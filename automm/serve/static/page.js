"use strict";
const model = JSON.parse(document.getElementById("model").textContent);
const form = document.getElementById("form");
const result = document.getElementById("result");
const SHOWN = 10;
const fields = new Map(); // column → {read, fill, clear}

// Everything a package or the server says is put in place as text, never as HTML.
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function textField(column, at) {
  const long = column.long;
  const input = element(long ? "textarea" : "input", {
    id: `field-${at}`, type: long ? undefined : "text", autocomplete: "off",
    inputmode: column.control === "number" ? "decimal" : undefined, rows: long ? 3 : undefined,
  });
  fields.set(column.name, {
    read: async () => input.value.trim() === "" ? null : input.value,
    fill: (cell) => { input.value = cell === null || cell === undefined ? "" : typeof cell === "object" ? JSON.stringify(cell) : String(cell); },
    clear: () => { input.value = ""; },
  });
  return element("div", { class: long ? "field wide" : "field" },
    element("label", { for: `field-${at}` }, column.name), element("p", { class: "hint" }, column.hint), input);
}

function preview(blob) {
  const kind = blob.type.split("/")[0];
  const tag = { image: "img", audio: "audio", video: "video" }[kind];
  if (!tag) return null;
  const shown = element(tag, kind === "image" ? { alt: "" } : { controls: true });
  const url = URL.createObjectURL(blob);
  shown.addEventListener("error", () => shown.remove());
  shown.src = url;
  return shown;
}

function size(bytes) {
  return bytes < 1024 ? `${bytes} bytes` : bytes < 1048576 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1048576).toFixed(1)} MiB`;
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error("the file cannot be read"));
    reader.readAsDataURL(blob);
  });
}

// An example's bytes carry no type; the first ones tell what a browser can show.
function sniff(bytes) {
  const head = String.fromCharCode(...bytes.slice(0, 12));
  if (head.startsWith("\x89PNG")) return "image/png";
  if (head.startsWith("\xff\xd8")) return "image/jpeg";
  if (head.startsWith("GIF8")) return "image/gif";
  if (head.startsWith("RIFF")) return head.endsWith("WEBP") ? "image/webp" : "audio/wav";
  if (head.startsWith("ID3") || head.startsWith("\xff\xfb")) return "audio/mpeg";
  if (head.startsWith("OggS")) return "audio/ogg";
  if (head.slice(4, 8) === "ftyp") return "video/mp4";
  return "";
}

function fileField(column, at) {
  let chosen = null;
  const input = element("input", { id: `field-${at}`, type: "file" });
  const prompt = "Drop a file here, or click to choose one";
  const text = element("span", { class: "hint" }, prompt);
  const drop = element("label", { class: "drop", for: `field-${at}` }, text, input);
  const values = column.inline ? element("textarea", { "aria-label": `${column.name}: values`, placeholder: "[1.0, 2.5, …]", rows: 2 }) : null;
  const show = (blob, name) => {
    chosen = blob;
    drop.querySelectorAll("img, audio, video").forEach((old) => { URL.revokeObjectURL(old.src); old.remove(); });
    text.textContent = blob ? `${name} · ${size(blob.size)}` : prompt;
    const shown = blob && preview(blob);
    if (shown) drop.prepend(shown);
    if (blob && column.bytes && blob.size > column.bytes) text.textContent += ` – over the limit of ${size(column.bytes)}`;
  };
  input.addEventListener("change", () => { const file = input.files[0]; show(file || null, file ? file.name : ""); });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.toggle("over", kind === "dragover"); });
  }
  drop.addEventListener("drop", (event) => { const file = event.dataTransfer.files[0]; if (file) show(file, file.name); });
  fields.set(column.name, {
    read: async () => {
      if (chosen) return { base64: await base64(chosen) };
      const typed = values ? values.value.trim() : "";
      if (!typed) return null;
      try { return JSON.parse(typed); } catch { throw new Error(`${column.name}: the values are not a JSON list`); }
    },
    fill: (cell) => {
      input.value = "";
      show(null);
      if (values) values.value = cell && !cell.base64 ? (typeof cell === "string" ? cell : JSON.stringify(cell)) : "";
      if (cell && cell.base64) {
        const bytes = Uint8Array.from(atob(cell.base64), (letter) => letter.charCodeAt(0));
        show(new Blob([bytes], { type: sniff(bytes) }), "example");
      }
    },
    clear: () => { input.value = ""; show(null); if (values) values.value = ""; },
  });
  const parts = values ? [element("p", { class: "or" }, "or its values as a JSON list"), values] : [];
  return element("div", { class: "field wide" },
    element("label", { for: `field-${at}` }, column.name), element("p", { class: "hint" }, column.hint), drop, ...parts);
}

function bar(name, share) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("aria-hidden", "true");
  const rect = document.createElementNS(space, "rect");
  rect.setAttribute("height", "100%");
  rect.setAttribute("width", `${Math.max(0, Math.min(1, share)) * 100}%`);
  svg.append(rect);
  return element("li", {}, svg, element("span", {}, name), element("span", {}, `${(share * 100).toFixed(1)} %`));
}

function written(value) {
  if (Array.isArray(value)) return value.length ? value.join(", ") : "(none)";
  return typeof value === "number" ? String(Number(value.toPrecision(6))) : String(value);
}

function showAnswer(answer, milliseconds) {
  const row = answer.predictions[0];
  const shares = [], others = [];
  for (const name of Object.keys(model.results)) {
    if (name.startsWith("probability_")) shares.push([name.slice("probability_".length), row[name]]);
    else if (name !== "prediction") others.push([name, row[name]]);
  }
  shares.sort((one, other) => other[1] - one[1]);
  const parts = [element("p", { class: "prediction" }, written(row.prediction))];
  if (shares.length) parts.push(element("ul", { class: "bars" }, ...shares.slice(0, SHOWN).map(([name, share]) => bar(name, share))));
  if (shares.length > SHOWN) {
    parts.push(element("details", {}, element("summary", {}, `${shares.length - SHOWN} more`),
      element("ul", { class: "bars more" }, ...shares.slice(SHOWN).map(([name, share]) => bar(name, share)))));
  }
  for (const [name, value] of others) parts.push(element("p", {}, `${name}: ${written(value)}`));
  parts.push(element("p", { class: "hint more" }, `version ${answer.version} · ${milliseconds.toFixed(0)} ms`));
  result.replaceChildren(element("h2", {}, "Result"), ...parts);
}

function showProblem(text) {
  result.replaceChildren(element("h2", {}, "No result"), element("p", { class: "bad" }, text));
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = document.getElementById("predict");
  button.disabled = true;
  try {
    const row = {};
    for (const [name, field] of fields) row[name] = await field.read();
    const start = performance.now();
    const response = await fetch(`/models/${encodeURIComponent(model.model)}/predict`, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify([row]),
    });
    const answer = await response.json();
    if (response.ok) showAnswer(answer, performance.now() - start);
    else showProblem(answer.error);
  } catch (problem) {
    showProblem(problem instanceof TypeError ? "The server cannot be reached." : problem.message);
  } finally {
    button.disabled = false;
    if (result.getBoundingClientRect().top > innerHeight * 0.8) result.scrollIntoView({ behavior: "smooth" });
  }
});

form.addEventListener("reset", () => fields.forEach((field) => field.clear()));

model.columns.forEach((column, at) => {
  document.getElementById("fields").append(column.control === "file" ? fileField(column, at) : textField(column, at));
});

if (model.examples.length) {
  let next = 0;
  const button = document.getElementById("example");
  button.hidden = false;
  button.addEventListener("click", () => {
    const row = model.examples[next++ % model.examples.length];
    fields.forEach((field, name) => field.fill(row[name]));
  });
}

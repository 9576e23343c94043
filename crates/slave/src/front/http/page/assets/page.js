// What the web page adds to a listing: uploads, new folders, renames, deletion, previews, filter.
//
// Without it, browsing and downloading work. Names of files only ever become text, never markup.
"use strict";

(() => {
  const PIECE = 8 * 1024 * 1024;
  const RETRY_MS = [500, 1000, 2000, 4000, 8000];
  const PREVIEW_TEXT = 64 * 1024;
  const DRAFT = document.documentElement.dataset.uploadDraft;
  const csrf = document.querySelector('meta[name="csrf"]')?.content;
  const folder = location.pathname.endsWith("/") ? location.pathname : location.pathname + "/";
  const rows = () => document.querySelectorAll("#entries tbody tr[data-name]");
  const find = (id) => document.getElementById(id);

  const make = (tag, properties = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };

  const headers = (more = {}) => (csrf ? { "X-CSRF-Token": csrf, ...more } : more);

  // A name becomes one segment of a path: no character of it means anything there.
  const urlOf = (name) => folder + encodeURIComponent(name);

  // The path of an entry that is shown, which a search may have found in a folder below.
  const pathOf = (row) => row.querySelector("a").pathname.replace(/\/$/, "");

  const say = (text, isError = false) => {
    const message = find("message");
    message.textContent = text;
    message.hidden = !text;
    message.classList.toggle("error", isError);
  };

  // Returns why the server refused; its errors are JSON objects with a message.
  const reason = async (answer) => {
    try {
      return (await answer.json()).error.message;
    } catch {
      return `${answer.status} ${answer.statusText}`;
    }
  };

  const change = async (method, url, more) => {
    const answer = await fetch(url, {
      method,
      headers: headers({ Accept: "application/json", ...more }),
    });
    if (!answer.ok) throw new Error(await reason(answer));
  };

  // Shows a dialog; resolves to the text of its field, to true without a field, or to null.
  const ask = ({ title, text, value, action, danger }) =>
    new Promise((resolve) => {
      const field = value === undefined ? null : make("input", { value, required: true, ariaLabel: title });
      const go = make("button", { type: "submit", textContent: action, className: danger ? "danger" : "primary" });
      const cancel = make("button", { type: "button", textContent: "Cancel" });
      const form = make("form", { method: "dialog" }, make("h2", { textContent: title }));
      if (text) form.append(make("p", { textContent: text }));
      if (field) form.append(field);
      form.append(make("div", { className: "bar" }, cancel, go));
      const dialog = make("dialog", {}, form);
      let result = null;
      form.addEventListener("submit", () => (result = field ? field.value : true));
      cancel.addEventListener("click", () => dialog.close());
      dialog.addEventListener("close", () => {
        dialog.remove();
        resolve(result);
      });
      document.body.append(dialog);
      dialog.showModal();
      if (field) {
        field.focus();
        const dot = value.lastIndexOf(".");
        field.setSelectionRange(0, dot > 0 ? dot : value.length);
      } else {
        cancel.focus();
      }
    });

  const attempt = async (what, work) => {
    try {
      await work();
      location.reload();
    } catch (error) {
      say(`${what}: ${error.message}`, true);
    }
  };

  const newFolder = async () => {
    const name = await ask({ title: "New folder", value: "", action: "Create" });
    if (name) await attempt(`Cannot create ${name}`, () => change("MKCOL", urlOf(name)));
  };

  const rename = async (row) => {
    const name = row.dataset.name.split("/").pop();
    const to = await ask({ title: `Rename ${name}`, value: name, action: "Rename" });
    if (!to || to === name) return;
    const target = new URL(encodeURIComponent(to), location.origin + pathOf(row)).href;
    await attempt(`Cannot rename ${name}`, () => change("MOVE", pathOf(row), { Destination: target, Overwrite: "F" }));
  };

  const remove = async (row) => {
    const { name } = row.dataset;
    const isFolder = row.classList.contains("folder");
    const text = isFolder
      ? "The folder and everything in it are deleted on all servers."
      : "The file is deleted on all servers.";
    if (await ask({ title: `Delete ${name}?`, text, action: "Delete", danger: true })) {
      await attempt(`Cannot delete ${name}`, () => change("DELETE", pathOf(row)));
    }
  };

  const preview = async (row, kind) => {
    const [{ name }, url] = [row.dataset, pathOf(row)];
    const close = make("button", { type: "button", textContent: "Close" });
    const open = make("a", { href: url + "?download", textContent: "Download" });
    const content =
      kind === "image" ? make("img", { src: url, alt: name }) : make("pre", { tabIndex: 0, textContent: "…" });
    const dialog = make(
      "dialog",
      { className: "preview" },
      make("h2", { textContent: name }),
      content,
      make("div", { className: "bar" }, open, close),
    );
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    if (kind !== "text") return;
    try {
      const answer = await fetch(url, { headers: { Range: `bytes=0-${PREVIEW_TEXT - 1}` } });
      // An empty file has no range.
      if (!answer.ok && answer.status !== 416) throw new Error(await reason(answer));
      content.textContent = answer.ok ? await answer.text() : "";
      const size = Number(answer.headers.get("Content-Range")?.split("/")[1] ?? 0);
      if (size > PREVIEW_TEXT) content.textContent += "\n…";
    } catch (error) {
      content.textContent = error.message;
    }
  };

  const addActions = () => {
    const canWrite = document.documentElement.dataset.writable === "true";
    for (const row of rows()) {
      const cell = row.querySelector(".actions");
      const { name, preview: kind } = row.dataset;
      const add = (text, className, work) => {
        const button = make("button", { type: "button", textContent: text, className });
        button.setAttribute("aria-label", `${text} ${name}`);
        button.addEventListener("click", work);
        cell.append(button);
      };
      if (kind) add("Preview", "plain", () => preview(row, kind));
      if (!canWrite) continue;
      add("Rename", "plain", () => rename(row));
      add("Delete", "plain danger", () => remove(row));
    }
  };

  const addFilter = () => {
    const field = find("search");
    if (!field || !find("entries")) return;
    field.addEventListener("input", () => {
      const wanted = field.value.trim().toLowerCase();
      for (const row of rows()) row.hidden = !row.dataset.name.toLowerCase().includes(wanted);
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.target.closest("input, dialog")) return;
      event.preventDefault();
      field.focus();
    });
  };

  // Uploads. Each is a resource of the server with an offset, so any failure can be repaired by
  // asking for the offset and continuing there, also after a reload of the page.

  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

  const keyOf = (file) => `relais-upload ${urlOf(file.name)} ${file.size} ${file.lastModified}`;

  // Sends one request with progress events, which fetch does not have.
  const send = (method, url, fields, body, onProgress, stop) =>
    new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open(method, url);
      for (const [name, value] of Object.entries(headers(fields))) request.setRequestHeader(name, value);
      request.upload.addEventListener("progress", (event) => onProgress?.(event.loaded));
      request.addEventListener("load", () => resolve(request));
      request.addEventListener("error", () => reject(new Error("the connection was lost")));
      request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
      stop.addEventListener("abort", () => request.abort(), { once: true });
      request.send(body);
    });

  const messageOf = (request) => {
    try {
      return JSON.parse(request.responseText).error.message;
    } catch {
      return `${request.status} ${request.statusText}`;
    }
  };

  class Refused extends Error {
    constructor(request) {
      super(messageOf(request));
      this.status = request.status;
    }
  }

  const isTemporary = (error) => !(error instanceof Refused) || error.status === 503 || error.status === 408;

  const upload = async (file, show, stop) => {
    const base = { Accept: "application/json", "Upload-Draft-Interop-Version": DRAFT };
    const begin = async () => {
      const fields = {
        ...base,
        "Upload-Complete": "?0",
        "Upload-Length": String(file.size),
        "X-OC-Mtime": String(Math.floor(file.lastModified / 1000)),
      };
      const answer = await send("PUT", urlOf(file.name), fields, null, null, stop);
      if (answer.status !== 201) throw new Refused(answer);
      const url = answer.getResponseHeader("Location");
      localStorage.setItem(keyOf(file), url);
      return { url, offset: 0 };
    };
    // Returns where the upload stands; none if the server does not know it any more.
    const ask = async (url) => {
      const answer = await send("HEAD", url, base, null, null, stop);
      if (answer.status === 404 || answer.status === 410) return null;
      if (answer.status >= 300) throw new Refused(answer);
      if (answer.getResponseHeader("Upload-Complete") === "?1") return { url, offset: file.size, isDone: true };
      return { url, offset: Number(answer.getResponseHeader("Upload-Offset")) };
    };
    const digest = async (piece) => {
      if (!globalThis.crypto?.subtle) return {};
      const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", await piece.arrayBuffer()));
      return { "Content-Digest": `sha-256=:${btoa(String.fromCharCode(...sum))}:` };
    };
    const append = async (state) => {
      const end = Math.min(state.offset + PIECE, file.size);
      const piece = file.slice(state.offset, end);
      const fields = {
        ...base,
        ...(await digest(piece)),
        "Content-Type": "application/partial-upload",
        "Upload-Offset": String(state.offset),
        "Upload-Complete": end === file.size ? "?1" : "?0",
      };
      const from = state.offset;
      const answer = await send("PATCH", state.url, fields, piece, (sent) => show(from + sent), stop);
      if (answer.status >= 300) throw new Refused(answer);
      return { url: state.url, offset: end, isDone: end === file.size };
    };

    let known = localStorage.getItem(keyOf(file));
    let state = null;
    for (let failures = 0; ; ) {
      try {
        state ??= known ? await ask(known) : await begin();
        if (!state) {
          known = null;
          continue;
        }
        known = state.url;
        show(state.offset);
        if (state.isDone) break;
        state = await append(state);
        failures = 0;
      } catch (error) {
        if (stop.aborted) throw error;
        if (!isTemporary(error)) {
          // A conflict of offsets is settled by asking, and an upload that the server has dropped
          // begins again; anything else ends the upload.
          if (!state || ![404, 409, 410].includes(error.status) || failures >= RETRY_MS.length) throw error;
          if (error.status !== 409) known = null;
        }
        const pause = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)];
        failures += 1;
        show(state?.offset ?? 0, `${error.message}; trying again`);
        state = null;
        await sleep(pause);
      }
    }
    localStorage.removeItem(keyOf(file));
  };

  const cancel = async (file) => {
    const url = localStorage.getItem(keyOf(file));
    localStorage.removeItem(keyOf(file));
    if (url) await fetch(url, { method: "DELETE", headers: headers({ "Upload-Draft-Interop-Version": DRAFT }) });
  };

  const showUpload = (file) => {
    const stop = new AbortController();
    const bar = make("progress", { max: Math.max(file.size, 1), value: 0 });
    const note = make("span", { className: "quiet" });
    const button = make("button", { type: "button", textContent: "Cancel" });
    button.setAttribute("aria-label", `Cancel the upload of ${file.name}`);
    const item = make("li", {}, make("span", { className: "file", textContent: file.name }), note, button, bar);
    button.addEventListener("click", () => stop.abort());
    find("uploads").append(item);
    const show = (sent, text) => {
      bar.value = sent;
      note.textContent = text ?? `${file.size ? Math.floor((100 * sent) / file.size) : 100} %`;
    };
    return { item, note, button, show, stop: stop.signal };
  };

  const uploadOne = async (file) => {
    const { item, note, button, show, stop } = showUpload(file);
    const exists = [...rows()].some((row) => row.dataset.name === file.name);
    if (exists && !(await ask({ title: `Replace ${file.name}?`, text: "A file of this name exists.", action: "Replace" }))) {
      item.remove();
      return false;
    }
    try {
      await upload(file, show, stop);
      note.textContent = "done";
      button.remove();
      return true;
    } catch (error) {
      if (stop.aborted) {
        await cancel(file).catch((failure) => say(`Cannot cancel: ${failure.message}`, true));
        item.remove();
      } else {
        note.textContent = error.message;
        item.classList.add("failed");
        button.textContent = "Close";
        button.addEventListener("click", () => item.remove());
      }
      return false;
    }
  };

  let isUploading = false;

  const uploadAll = async (files) => {
    isUploading = true;
    let done = 0;
    for (const file of files) done += (await uploadOne(file)) ? 1 : 0;
    isUploading = false;
    // Failed uploads stay to be read.
    if (done && !document.querySelector("#uploads .failed")) location.reload();
  };

  const addUploads = () => {
    const picker = find("files");
    find("upload").addEventListener("click", () => picker.click());
    picker.addEventListener("change", () => uploadAll([...picker.files]));
    find("new-folder").addEventListener("click", newFolder);
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    document.addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      document.body.classList.add("dropping");
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) document.body.classList.remove("dropping");
    });
    document.addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      document.body.classList.remove("dropping");
      uploadAll([...event.dataTransfer.files]);
    });
    addEventListener("beforeunload", (event) => {
      if (isUploading) event.preventDefault();
    });
    find("write-tools").hidden = false;
  };

  // Times in the listing are UTC without JavaScript, and local with it.
  const showLocalTimes = () => {
    const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
    for (const time of document.querySelectorAll("td.time time")) {
      time.title = time.dateTime;
      time.textContent = format.format(new Date(time.dateTime));
    }
  };

  addActions();
  addFilter();
  showLocalTimes();
  if (document.documentElement.dataset.writable === "true") addUploads();
})();

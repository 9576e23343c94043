// Keeps the status page up to date. Without it the page is complete, as of when it was loaded.
//
// Messages have texts and paths of curves by name, never markup. When slaves or their states
// change, the page is loaded again in the background and its parts are put in place.
"use strict";

(() => {
  const MOST_EVENTS = 200;
  const RETRY_MS = 3000;
  const live = document.getElementById("live");
  const root = document.documentElement;
  let layout = root.dataset.layout;
  let isLoading = false;

  const say = (text) => {
    if (live.textContent !== text) live.textContent = text;
  };

  const index = (attribute) =>
    new Map([...document.querySelectorAll(`[${attribute}]`)].map((node) => [node.getAttribute(attribute), node]));

  let texts = index("data-live");
  let curves = index("data-curve");

  // Loads the page again and takes over its content, with the focus and the scroll position kept.
  const reload = async () => {
    if (isLoading) return;
    isLoading = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!answer.ok || answer.redirected) throw new Error(answer.statusText);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const table = document.querySelector(".wide");
      const focused = document.activeElement?.id;
      const scrolled = table.scrollLeft;
      for (const section of document.querySelectorAll("main > section")) {
        const heading = section.getAttribute("aria-labelledby");
        const fresh = page.querySelector(`main > section[aria-labelledby="${heading}"]`);
        if (fresh && heading !== "events") section.replaceWith(document.adoptNode(fresh));
      }
      document.querySelector(".wide").scrollLeft = scrolled;
      if (focused) document.getElementById(focused)?.focus();
      layout = page.documentElement.dataset.layout;
      texts = index("data-live");
      curves = index("data-curve");
    } catch {
      say("The page cannot be loaded; it is tried again.");
    } finally {
      isLoading = false;
    }
  };

  const addEvents = (events) => {
    const list = document.getElementById("event-list");
    const blank = document.getElementById("event").content.firstElementChild;
    for (const event of events) {
      const item = blank.cloneNode(true);
      item.dataset.level = event.level;
      item.querySelector("time").dateTime = event.time;
      item.querySelector("time").textContent = event.time;
      item.querySelector("span").textContent = event.text;
      list.prepend(item);
    }
    while (list.children.length > MOST_EVENTS) list.lastElementChild.remove();
  };

  const update = (message) => {
    addEvents(message.events);
    if (message.layout !== layout) {
      reload();
      return;
    }
    for (const [name, text] of Object.entries(message.texts)) {
      const node = texts.get(name);
      if (node && node.textContent !== text) node.textContent = text;
    }
    for (const [name, path] of Object.entries(message.curves)) curves.get(name)?.setAttribute("d", path);
  };

  const open = (url) => {
    const stream = new EventSource(url);
    stream.addEventListener("open", () => say("Live"));
    stream.addEventListener("status", (event) => {
      say("Live");
      update(JSON.parse(event.data));
    });
    stream.addEventListener("reload", reload);
    stream.addEventListener("end", () => {
      stream.close();
      say("The login has ended. Load the page again to continue.");
    });
    stream.addEventListener("error", () => {
      say("No connection to the master");
      // Otherwise the browser connects again by itself.
      if (stream.readyState === EventSource.CLOSED) setTimeout(() => open(url), RETRY_MS);
    });
  };

  open(root.dataset.stream);
})();

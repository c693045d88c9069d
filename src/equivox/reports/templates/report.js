"use strict";
window.addEventListener("error", (event) => { document.body.dataset.error = event.message; });
(() => {
  const all = (where, what) => Array.from(where.querySelectorAll(what));
  const json = (node) => JSON.parse(node.textContent);
  const hover = document.getElementById("hover-data");
  const cases = hover ? json(hover) : { id: [], heads: [], values: [] };
  const tip = document.getElementById("tip");

  // Marks: the nearest one to the pointer, or one after the other by keyboard.
  const readMarks = (svg) => {
    const marks = [];
    all(svg, ".dots").forEach((path) => {
      const ids = path.dataset.cases.split(" ");
      const places = path.getAttribute("d").matchAll(/M(-?[\d.]+) (-?[\d.]+)/g);
      let next = 0;
      for (const place of places) marks.push({ x: +place[1], y: +place[2], index: +ids[next++] });
    });
    return marks;
  };
  const describe = (index) => {
    const head = document.createElement("b");
    head.textContent = cases.id[index];
    const lines = cases.heads.map((name, k) => {
      const line = document.createElement("div");
      line.textContent = `${name} ${cases.values[k][index]}`;
      return line;
    });
    return [head, ...lines];
  };
  const hide = () => { tip.hidden = true; all(document, ".ring").forEach((ring) => ring.remove()); };
  const show = (svg, mark) => {
    hide();
    const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    ring.setAttribute("class", "ring");
    ring.setAttribute("cx", mark.x);
    ring.setAttribute("cy", mark.y);
    ring.setAttribute("r", 6.5);
    svg.append(ring);
    tip.replaceChildren(...describe(mark.index));
    tip.hidden = false;
    const box = ring.getBoundingClientRect();
    const left = Math.min(box.right + 8, document.documentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(8, left) + window.scrollX}px`;
    const above = box.top - tip.offsetHeight - 8;
    tip.style.top = `${(above > 4 ? above : box.bottom + 8) + window.scrollY}px`;
  };
  all(document, ".dots-box").forEach((box) => {
    const svg = box.querySelector("svg");
    let marks = null;
    let sorted = null;
    let current = -1;
    const load = () => {
      if (marks) return;
      marks = readMarks(svg);
      sorted = svg.classList.contains("strip") ? marks : marks.slice().sort((a, b) => a.x - b.x || a.y - b.y);
    };
    box.addEventListener("pointermove", (event) => {
      load();
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      let best = null;
      let least = 16 * 16;
      for (const mark of marks) {
        const far = (mark.x - at.x) ** 2 + (mark.y - at.y) ** 2;
        if (far < least) { least = far; best = mark; }
      }
      if (best) show(svg, best); else hide();
    });
    box.addEventListener("pointerleave", hide);
    box.addEventListener("blur", hide);
    box.addEventListener("keydown", (event) => {
      load();
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
      if (event.key === "Escape") hide();
      else if (event.key === "Home") current = 0;
      else if (event.key === "End") current = sorted.length - 1;
      else if (step) current = current < 0 ? 0 : Math.max(0, Math.min(sorted.length - 1, current + step));
      else return;
      event.preventDefault();
      if (event.key !== "Escape" && sorted.length) show(svg, sorted[current]);
    });
  });

  // Gallery: a slice is a part of the sheet.
  all(document, ".case").forEach((card) => {
    const data = json(card.querySelector(".slice-data"));
    const svg = card.querySelector(".slices");
    const slider = card.querySelector("input[type=range]");
    const output = card.querySelector("output");
    const last = data.views.length - 1;
    let at = +slider.value;
    const go = (to) => {
      at = Math.max(0, Math.min(last, to));
      svg.setAttribute("viewBox", data.views[at].join(" "));
      slider.value = at;
      slider.setAttribute("aria-valuetext", data.words[at]);
      output.textContent = data.words[at];
    };
    slider.addEventListener("input", () => go(+slider.value));
    const viewer = card.querySelector(".viewer");
    viewer.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 5, PageUp: -5, Home: -last, End: last }[event.key];
      if (!step) return;
      event.preventDefault();
      go(at + step);
    });
    let pulled = 0;
    viewer.addEventListener("wheel", (event) => {
      const way = Math.sign(event.deltaY);
      if (event.ctrlKey || (way > 0 ? at === last : at === 0)) return; // past the ends the page scrolls on
      event.preventDefault();
      pulled += event.deltaMode ? way * 40 : event.deltaY;
      if (Math.abs(pulled) >= 30) { go(at + way); pulled = 0; }
    }, { passive: false });
    all(card, "[data-show]").forEach((box) => box.addEventListener("change", () => card.classList.toggle(`hide-${box.dataset.show}`, !box.checked)));
    all(card, "[data-window]").forEach((button) => button.addEventListener("click", () => {
      card.dataset.window = button.dataset.window;
      all(card, "button[data-window]").forEach((other) => other.setAttribute("aria-pressed", other === button));
    }));
    const only = card.querySelector("select");
    if (only) only.addEventListener("change", () => all(svg, "[data-class]").forEach((path) => {
      path.style.display = !only.value || path.dataset.class === only.value ? "" : "none";
    }));
    go(at);
  });

  // Tables: press a head to sort, again to turn round; what has no number stays below.
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim().replace(/[,\s]/g, "").replace("−", "-");
    const found = parseFloat(text);
    return Number.isNaN(found) || /^[^\d.+-]/.test(text) ? cell.textContent.trim() : found;
  };
  const before = (a, b, way) => {
    const numbers = [a, b].map((one) => typeof one === "number");
    if (numbers[0] && numbers[1]) return way * (a - b);
    if (numbers[0] !== numbers[1]) return numbers[0] ? -1 : 1;
    return way * String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  all(document, "table.sortable").forEach((table) => {
    const heads = Array.from(table.tHead.rows[table.tHead.rows.length - 1].cells);
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
        const body = table.tBodies[0];
        const rows = Array.from(body.rows).map((row) => [value(row, column), row]);
        body.append(...rows.sort((a, b) => before(a[0], b[0], way)).map((pair) => pair[1]));
      });
    });
  });

  // Saving.
  const unpack = async (node) => {
    const bytes = Uint8Array.from(atob(node.textContent.trim()), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).blob();
  };
  const makers = {
    cases: () => unpack(document.getElementById("cases-data")),
    summary: async () => new Blob([JSON.stringify(json(document.getElementById("summary-data")), null, 2) + "\n"]),
  };
  all(document, "[data-save]").forEach((button) => button.addEventListener("click", async () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await makers[button.dataset.save]());
    link.download = button.dataset.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    document.getElementById("save-note").textContent = `Saved as ${button.dataset.name}.`;
  }));

  // Paper has no details to open.
  window.addEventListener("beforeprint", () => all(document, "details:not([open])").forEach((one) => { one.open = true; one.dataset.opened = ""; }));
  window.addEventListener("afterprint", () => all(document, "details[data-opened]").forEach((one) => { one.open = false; delete one.dataset.opened; }));
  document.body.dataset.ready = "1";
})();

// Arranges what DVC writes into the page: a heading, the charts in sections in the order of a run, images under titles.
// Without it the page shows the same charts and images, one after the other, under their paths.
(() => {
  const SECTIONS = [
    ["Result", ["plots_tables_scores_csv"]],
    ["Training", ["Accuracy", "Loss", "plots_figures_phases_png"]],
    ["Classes", ["plots_tables_per_class_csv", "plots_tables_confused_csv", "plots_tables_confusion_csv",
      "Confusion__as_shares_of_the_actual_class"]],
    ["Confidence", ["plots_figures_calibration_png", "plots_figures_corruptions_png"]],
    ["Images", ["plots_figures_mistakes_png", "plots_figures_gallery_png", "plots_figures_samples_png",
      "plots_figures_views_png"]],
  ];
  // Each picture has a title of its own; these stand above several of one kind.
  const TITLES = {
    phases: "Phases", calibration: "Calibration", corruptions: "Corrupted test images", mistakes: "Misclassified images",
    gallery: "Images of one class", samples: "Training images", views: "Views of training images",
  };
  const NARROW = 700;
  const specs = {};
  const element = (name, text = "") => Object.assign(document.createElement(name), { textContent: text });
  // HEAD first, the workspace last, in charts as in pictures.
  const place = (run) => (run === "HEAD" ? 0 : run === "workspace" ? 2 : 1);
  const sorted = (runs) => [...new Set(runs)].sort((one, other) => place(one) - place(other));
  const rows = (spec) => (spec && spec.data && spec.data.values) || [];

  const embed = window.vegaEmbed;
  window.vegaEmbed = (target, spec, options) => {
    specs[String(target).slice(1)] = { title: spec.title, rows: rows(spec) };
    // DVC writes {} for a file that is not there.
    if (!Object.keys(spec).length) return Promise.resolve();
    return embed(target, fitted(spec), { actions: { export: true, source: false, compiled: false, editor: false }, ...options });
  };

  // The page's heading has the title of the scores. On a phone charts are as wide as the screen, legends below them.
  function fitted(spec) {
    const own = { ...spec, title: /^Scores of /.test(spec.title) ? "Scores" : spec.title };
    if (window.innerWidth >= NARROW) return own;
    const room = Math.max(200, window.innerWidth - 130);
    own.title = { text: wrapped(own.title || "", 38), anchor: "start" };
    own.config = { ...own.config, legend: { orient: "bottom", columns: 2 }, axis: { labelLimit: 110 } };
    if (typeof own.width === "number") own.width = Math.min(own.width, room);
    if (own.facet) {
      own.columns = 1;
      if (typeof own.spec.width === "number") own.spec = { ...own.spec, width: Math.min(own.spec.width, room) };
    }
    return own;
  }

  function wrapped(text, width) {
    const lines = [""];
    for (const word of text.split(" ")) {
      if (lines[lines.length - 1].length + word.length >= width) lines.push("");
      lines[lines.length - 1] = `${lines[lines.length - 1]} ${word}`.trim();
    }
    return lines;
  }

  function heading(runs) {
    const header = element("header"), { title = "", rows: scores = [] } = specs.plots_tables_scores_csv || {};
    const [, what, how] = title.match(/^Scores of (.+?), (recipe .+)$/) || [];
    const one = runs.length === 1;
    header.append(element("h1", one && what ? what : runs.length > 1 ? `${runs.join(", ")} compared` : "Plots"));
    if (one && how) header.append(element("p", `${runs[0]}: ${how}`));
    const table = element("table");
    for (const run of runs) {
      const row = scores.find((it) => it.rev === run && it.of === "test" && it.score === "accuracy");
      if (!row) continue;
      const line = table.insertRow(), interval = [row.low, row.high].map(Number);
      line.append(element("th", one ? "test accuracy" : `${run}: test accuracy`));
      const cell = line.insertCell();
      cell.textContent = Number(row.value).toFixed(4);
      if (interval.every(Number.isFinite)) {
        cell.append(element("small", `  95 %: ${interval.map((bound) => bound.toFixed(4)).join(" to ")}`));
      }
    }
    header.append(table);
    return header;
  }

  // DVC's box of a picture of each run, under a path, as figures under a title.
  function pictures(box, runs) {
    const name = box.id.replace(/^plots_figures_/, "").replace(/_png$/, "");
    const found = [...box.querySelectorAll("img")].map((image) => {
      const run = image.previousElementSibling ? image.previousElementSibling.textContent : "";
      const figure = element("figure");
      if (runs.length > 1) figure.append(element("figcaption", run));
      image.alt = `${TITLES[name] || name}, ${run}`;
      // A phone shows it small; a tap shows it as it is.
      const link = Object.assign(element("a"), { href: image.src });
      link.append(image);
      figure.append(link);
      return { run, figure };
    }).sort((one, other) => place(one.run) - place(other.run));
    const images = Object.assign(element("div"), { className: "images" });
    images.append(...found.map((it) => it.figure));
    box.removeAttribute("style");
    box.replaceChildren(element("h3", TITLES[name] || name), images);
  }

  function noResults() {
    const section = element("section");
    section.append(
      element("h1", "No results yet"),
      element("p", "Nothing has been run here, or the outputs are not in this folder. Type one of these:"),
    );
    const table = element("table");
    for (const [command, purpose] of [
      ["dvc repro", "runs the pipeline with the parameters of params.yaml"],
      ["dvc exp run -S recipe=mobilenetv2-gradual", "runs a recipe of conf/recipe"],
      ["dvc pull", "fetches the outputs of a run that was shared"],
    ]) {
      const line = table.insertRow();
      line.insertCell().append(element("code", command));
      line.insertCell().textContent = purpose;
    }
    const again = element("p", "and then ");
    again.append(element("code", "dvc plots show"), " again.");
    section.append(table, again);
    return section;
  }

  function arrange() {
    const boxes = [...document.querySelectorAll("body > div[id]")].filter((box) => !box.id.startsWith("vg-tooltip"));
    const drawn = boxes.filter((box) => box.querySelector("img") || (specs[box.id] && specs[box.id].rows.length));
    const main = element("main");
    if (!boxes.some((box) => box.id === "plots_tables_scores_csv" || box.id.startsWith("plots_"))) return;
    const captions = [...document.querySelectorAll("body > div img")].map((it) => it.previousElementSibling);
    const runs = sorted([
      ...Object.values(specs).flatMap((it) => it.rows.map((row) => row.rev)),
      ...captions.map((it) => (it ? it.textContent : "")),
    ].filter(Boolean));
    boxes.filter((box) => !drawn.includes(box)).forEach((box) => box.remove());
    if (!drawn.length) {
      main.append(noResults());
      document.body.prepend(main);
      return;
    }
    drawn.filter((box) => box.querySelector("img")).forEach((box) => pictures(box, runs));
    const listed = SECTIONS.flatMap(([, ids]) => ids), others = drawn.map((box) => box.id).filter((id) => !listed.includes(id));
    for (const [title, ids] of [...SECTIONS, ["More", others]]) {
      const found = ids.map((id) => drawn.find((box) => box.id === id)).filter(Boolean);
      if (!found.length) continue;
      const section = element("section"), charts = Object.assign(element("div"), { className: "charts" });
      charts.append(...found);
      section.append(element("h2", title), charts);
      main.append(section);
    }
    document.body.prepend(heading(runs), main);
    document.title = document.querySelector("h1").textContent;
  }

  document.addEventListener("DOMContentLoaded", arrange);
})();

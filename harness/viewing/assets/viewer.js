"use strict";
// The viewer's one script. Whatever it shows was made by models and strangers: it becomes text (textContent) and never
// markup, and no string of theirs becomes an address, a selector or code.

const SHOWN = 20; // items on a page
const KEPT = 40; // parts in memory
const LONGEST = 600; // words of a text that are compared one by one
const SIGNS = { b: "▲", w: "▼", s: "=", u: "–", n: "", "-": "" };

/** What may be chosen of a list, sign by sign: [value, name]. */
function changes(list) {
  const [better, worse] = list.words;
  return [["", "all items"], ["b", better], ["w", worse], ["bw", "changed either way"], ["s", "the same score"],
    ["u", "unscored"], ["-", "without a response"]];
}

/** Places of the items of a list whose sign in `row` is one of `change` and whose kind is `kind`; empty means any. */
function chosen(list, row, change, kind) {
  const places = [];
  const signs = list.signs[row] || "";
  for (let at = 0; at < signs.length; at++) {
    if (change && !change.includes(signs[at])) continue;
    if (kind !== "" && list.kind_of.length && list.kind_of[at] !== Number(kind)) continue;
    places.push(at);
  }
  return places;
}

/** Whether every word stands in an item's id, question, facts, or what any row said to it. */
function holds(item, words) {
  const texts = [item.id, item.prompt, ...item.facts.map((fact) => fact[1])];
  for (const said of item.said) if (said) texts.push(said.text, said.why);
  const whole = texts.join("\n").toLowerCase();
  return words.every((word) => whole.includes(word));
}

/** The words to look for in what was typed. */
function words(text) {
  return text.toLowerCase().split(/\s+/).filter(Boolean);
}

/** Two texts in pieces [text, whether the other lacks it]; what is too long is compared at its ends alone. */
function differences(one, other) {
  const a = one.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) || [];
  const b = other.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) || [];
  let first = 0;
  while (first < a.length && first < b.length && a[first] === b[first]) first++;
  let last = 0;
  while (last < a.length - first && last < b.length - first && a[a.length - 1 - last] === b[b.length - 1 - last]) last++;
  const [ours, theirs] = [a.slice(first, a.length - last), b.slice(first, b.length - last)];
  const [x, y] = ours.length > LONGEST || theirs.length > LONGEST
    ? [ours.map(() => true), theirs.map(() => true)] : unmatched(ours, theirs);
  const whole = (words, changed) => joined(words, [...Array(first).fill(false), ...changed, ...Array(last).fill(false)]);
  return [whole(a, x), whole(b, y)];
}

/** Of two lists of words, which are in no longest common subsequence. */
function unmatched(a, b) {
  const wide = b.length + 1;
  const best = new Uint16Array((a.length + 1) * wide);
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      best[i * wide + j] = a[i] === b[j] ? best[(i + 1) * wide + j + 1] + 1
        : Math.max(best[(i + 1) * wide + j], best[i * wide + j + 1]);
  const [x, y] = [Array(a.length).fill(true), Array(b.length).fill(true)];
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a[i] === b[j]) x[i++] = y[j++] = false;
    else if (best[(i + 1) * wide + j] >= best[i * wide + j + 1]) i++;
    else j++;
  }
  return [x, y];
}

/** Words in pieces of one kind each. */
function joined(list, changed) {
  const pieces = [];
  list.forEach((word, at) => {
    const last = pieces[pieces.length - 1];
    if (last && last[1] === changed[at]) last[0] += word;
    else pieces.push([word, changed[at]]);
  });
  return pieces;
}

/** What a sign of a list means, in words; the baseline has none of its own. */
function meaning(sign, list, isBaseline) {
  if (sign === "u") return "unscored";
  if (isBaseline || sign === "n") return "";
  return { b: list.words[0], w: list.words[1], s: "the same score" }[sign] || "";
}

/** The address of a picture, if it is one of ours; else nothing. */
function address(text) {
  return /^pictures\/[0-9a-f]{24}(-large)?(\.(png|jpeg))?$/.test(text || "") ? text : "";
}

/** A value that is asked for once, and the last ones kept. */
function remembered(load) {
  const kept = new Map();
  return (name) => {
    const value = kept.get(name) || load(name);
    kept.delete(name);
    kept.set(name, value);
    value.catch(() => kept.delete(name));
    if (kept.size > KEPT) kept.delete(kept.keys().next().value);
    return value;
  };
}

/** From the local server. */
async function fetched(name) {
  const reply = await fetch(`data/${name}.json`, { credentials: "omit" });
  if (!reply.ok) throw new Error(await reply.text());
  return reply.json();
}

/** From files beside the page, which a browser loads as scripts: each says its name and one JSON text. */
function byScript(window) {
  const waiting = new Map();
  window.part = (name, text) => waiting.get(name)?.(JSON.parse(text));
  return (name) => new Promise((resolve, reject) => {
    waiting.set(name, resolve);
    const script = window.document.createElement("script");
    script.src = `data/${name}.js`;
    script.onload = () => { script.remove(); waiting.delete(name); reject(new Error(`${name} holds something else`)); };
    script.onerror = () => { script.remove(); reject(new Error(`data/${name}.js is not there; copy the whole folder.`)); };
    window.document.head.append(script);
  });
}

/** An element with text, or with what is given inside. */
function made(document, tag, style, ...inside) {
  const one = document.createElement(tag);
  if (style) one.className = style;
  one.append(...inside);
  return one;
}

/** What the judge of a response was asked, what it replied, and what was made of that. */
function judged(document, said) {
  if (!said.heard.length) return made(document, "p", "quiet", `judged by ${said.judge}, which keeps no replies`);
  const box = made(document, "details", "", made(document, "summary", "", `what the judge said: ${said.judge}`));
  for (const one of said.heard) {
    const list = made(document, "dl", "facts");
    for (const [name, text] of [["reply", one.reply || "(none is kept)"], ["made of it", one.made], ["by", one.by],
      ["asked", one.question]])
      list.append(made(document, "dt", "", name), made(document, "dd", "text", text));
    box.append(list);
  }
  return box;
}

/** What one row said to an item. */
function response(document, index, list, at, row, said, pieces) {
  const box = made(document, "section", "");
  const sign = list.signs[row][at];
  const what = meaning(sign, list, row === index.baseline);
  const kind = { b: "better", w: "worse", u: "failed" }[sign] || "";
  box.append(made(document, "h3", "", index.rows[row]));
  if (!said) {
    box.append(made(document, "p", "quiet", "no response is here"));
    return box;
  }
  if (what) box.append(made(document, "span", `chip ${kind}`, `${SIGNS[sign]} ${what}${said.why ? `: ${said.why}` : ""}`));
  box.append(" ", made(document, "span", "quiet", said.score));
  const text = made(document, "p", "text");
  for (const [piece, differs] of pieces || [[said.text, false]])
    text.append(differs ? made(document, "mark", "differs", piece) : piece);
  if (!said.text) text.append(made(document, "span", "quiet", "(nothing)"));
  if (said.cut) text.append(made(document, "span", "quiet", ` … ${said.cut} characters more`));
  box.append(text);
  if (said.parts) box.append(made(document, "details", "", made(document, "summary", "", "parts of the score"), said.parts));
  if (said.judge) box.append(judged(document, said));
  return box;
}

/** One item of a list, with two rows side by side and the others below. */
function article(document, index, list, at, item, row, beside) {
  const left = made(document, "div", "");
  const small = address(item.picture.small);
  if (small) {
    const image = made(document, "img", "");
    image.loading = "lazy";
    image.alt = `the picture of item ${item.id}`;
    image.src = small;
    const large = address(item.picture.large);
    const link = large ? made(document, "a", "", image) : image;
    if (large) link.href = large;
    left.append(link);
  } else if (item.picture.gone) left.append(made(document, "p", "quiet", "its picture is gone or has changed"));
  const kind = list.kind_of.length ? list.kinds[list.kind_of[at]] : "";
  left.append(made(document, "p", "quiet", [item.id, kind].filter(Boolean).join(" · ")));
  const asked = made(document, "div", "", made(document, "p", "prompt", item.prompt));
  const [known, more] = [made(document, "dl", "facts"), made(document, "dl", "facts")];
  for (const [name, text] of item.facts)
    (known.childNodes.length ? more : known).append(made(document, "dt", "", name), made(document, "dd", "", text));
  const context = made(document, "details", "", made(document, "summary", "", "what else scoring knows"), more);
  const pair = made(document, "div", "pair");
  const [mine, its] = [item.said[row], item.said[beside]];
  const pieces = mine && its && row !== beside ? differences(its.text, mine.text) : [];
  if (beside !== row) pair.append(response(document, index, list, at, beside, its, pieces[0]));
  pair.append(response(document, index, list, at, row, mine, pieces[1]));
  const rest = made(document, "details", "", made(document, "summary", "", `the other rows (${index.rows.length - 2})`));
  item.said.forEach((said, other) => {
    if (other !== row && other !== beside) rest.append(response(document, index, list, at, other, said));
  });
  const right = made(document, "div", "", asked, known, ...(more.childNodes.length ? [context] : []), pair);
  if (index.rows.length > 2) right.append(rest);
  return made(document, "article", "item", left, right);
}

/** Fill a select with [value, name] and choose a value, if it is there. */
function fill(document, select, options, value) {
  select.replaceChildren(...options.map(([value, name]) => {
    const option = made(document, "option", "", name);
    option.value = String(value);
    return option;
  }));
  if (options.some(([one]) => String(one) === value)) select.value = value;
}

/** Show the page, and again with every change of the form. */
async function start(window) {
  const { document } = window;
  const load = remembered(document.body.dataset.parts === "script" ? byScript(window) : fetched);
  const [form, box, count] = ["filters", "items", "count"].map((id) => document.getElementById(id));
  const asked = new URLSearchParams(window.location.hash.slice(1));
  const index = await load("index");
  const about = [`testbed ${index.testbed}`, ...index.notes];
  document.getElementById("about").textContent = about.join("; ");
  const seeds = new Set(index.sets.map((one) => one.seed)).size;
  const sets = index.sets.map((one, at) => [at, `${one.label}${seeds > 1 ? `, seed ${one.seed}` : ""} (${one.items})`]);
  const rows = index.rows.map((label, at) => [at, label]);
  const first = rows.find(([at]) => at !== index.baseline) || rows[0];
  const named = index.sets.findIndex((one) => one.name === asked.get("benchmark"));
  fill(document, form.elements.set, sets, named >= 0 ? String(named) : asked.get("set"));
  fill(document, form.elements.row, rows, asked.get("row") || String(first[0]));
  fill(document, form.elements.beside, rows, asked.get("beside") || String(Math.max(0, index.baseline)));
  form.elements.text.value = asked.get("text") || "";
  let [page, turn, list] = [Math.max(0, Number(asked.get("page")) || 0), 0, null];

  const options = async () => {
    list = await load(`${form.elements.set.value}-list`);
    fill(document, form.elements.change, changes(list), form.elements.change.value || asked.get("change"));
    const kinds = list.kinds.map((name, at) => [at, name]);
    fill(document, form.elements.kind, [["", "any"], ...kinds], form.elements.kind.value || asked.get("kind"));
    form.elements.kind.disabled = !kinds.length;
  };
  const part = (set, at) => load(`${set}-${Math.floor(at / index.part)}`);

  /** Places that hold the words; tells how far it is, and stops where another search has begun. */
  const searched = async (set, places, text, mine) => {
    const found = [];
    let before = -1;
    for (const at of places) {
      const number = Math.floor(at / index.part);
      if (number !== before) {
        if (mine !== turn) return found;
        count.textContent = `searching: ${Math.round((100 * at) / index.sets[set].items)} %`;
        before = number;
      }
      if (holds((await part(set, at))[at % index.part], text)) found.push(at);
    }
    return found;
  };

  const show = async () => {
    const mine = ++turn;
    const [elements, shown] = [form.elements, list];
    const [set, row, beside] = ["set", "row", "beside"].map((name) => Number(elements[name].value));
    let places = chosen(shown, row, elements.change.value, elements.kind.value);
    const text = words(elements.text.value);
    if (text.length) places = await searched(set, places, text, mine);
    if (mine !== turn) return;
    const last = Math.max(0, Math.ceil(places.length / SHOWN) - 1);
    page = Math.min(page, last);
    const articles = [];
    for (const at of places.slice(page * SHOWN, (page + 1) * SHOWN))
      articles.push(article(document, index, shown, at, (await part(set, at))[at % index.part], row, beside));
    if (mine !== turn) return;
    box.replaceChildren(...articles);
    count.textContent = `${places.length} of ${index.sets[set].items} items${places.length ? "" : ": choose another row, or show all items"}`;
    document.getElementById("page").textContent = `page ${page + 1} of ${last + 1}`;
    document.getElementById("previous").disabled = page === 0;
    document.getElementById("next").disabled = page === last;
    const kept = new URLSearchParams([...new window.FormData(form)].filter(([, value]) => value));
    if (page) kept.set("page", String(page));
    window.location.replace(`#${kept}`);
  };

  const told = (work) => work().catch((error) => { count.textContent = error.message; box.replaceChildren(); });
  const turned = (by) => () => { page += by; told(show).then(() => window.scrollTo(0, 0)); };
  document.getElementById("previous").addEventListener("click", turned(-1));
  document.getElementById("next").addEventListener("click", turned(1));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    page = 0;
    turn++;
    const another = event.target.name === "set";
    if (another) form.elements.kind.value = "";
    told(async () => { if (another) await options(); await show(); });
  });
  await options();
  await show();
}

if (typeof window === "undefined")
  module.exports = { address, changes, chosen, differences, holds, meaning, remembered, words };
else
  start(window).catch((error) => { document.getElementById("count").textContent = error.message; });

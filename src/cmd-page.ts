import { createHash } from "node:crypto";
import { safe } from "./terminal.ts";

/*
 * Pages for people who would rather look than read a terminal: one file that loads nothing, runs nothing and sends nothing, which its
 * content security policy makes browsers enforce. Every text goes through `html`, which escapes it.
 */

/** Markup that is safe to put into a page. Made by {@link html} alone. */
export class Markup {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

type Part = string | number | Markup | null | readonly (Markup | null)[];

/**
 * Markup from a template. What is put in is text, unless it is markup already: it is escaped, also between the quotes of an attribute,
 * and characters that are invisible or turn the direction of text stand as their numbers. Never put text into a tag's or an attribute's
 * name, or where a script or a style begins.
 */
export function html(strings: TemplateStringsArray, ...parts: Part[]): Markup {
  return new Markup(
    strings.map((fixed, n) => fixed + (n < parts.length ? part(parts[n] ?? null) : "")).join(""),
  );
}

function part(value: Part): string {
  if (value === null) return "";
  if (value instanceof Markup) return value.text;
  if (typeof value === "object") return value.map((one) => one?.text ?? "").join("\n");
  return safe(String(value)).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

const STYLE = `
:root{color-scheme:light dark;--fg:#1b1f24;--bg:#fff;--dim:#59636e;--line:#d1d9e0;--soft:#f6f8fa;--bad:#b3261e;--warn:#8a5a00;--good:#1a6e37;--bar:#3867c8}
@media(prefers-color-scheme:dark){:root{--fg:#e6e9ed;--bg:#14171b;--dim:#9aa4af;--line:#343b44;--soft:#1d2127;--bad:#ff8a80;--warn:#f0b44c;--good:#6fd08c;--bar:#7ea6f5}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}
main{max-width:74rem;margin:0 auto;padding:1.5rem 1.25rem 4rem}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:2.2rem 0 .5rem}
p{margin:.4rem 0}
code,.v{font-family:ui-monospace,monospace;font-size:.9em;overflow-wrap:anywhere}
pre{background:var(--soft);border:1px solid var(--line);border-radius:6px;padding:.6rem .8rem;white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.5 ui-monospace,monospace;margin:.5rem 0}
.dim{color:var(--dim)}
.bad{color:var(--bad)}
.warn{color:var(--warn)}
.good{color:var(--good)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.6rem;margin:1rem 0}
.tile{border:1px solid var(--line);border-radius:6px;padding:.55rem .75rem;background:var(--soft)}
.tile b{display:block;font-size:1.35rem;line-height:1.3;overflow-wrap:anywhere}
.box{border:1px solid var(--line);border-left:4px solid var(--dim);border-radius:6px;padding:.6rem .9rem;margin:1rem 0}
.box.deny{border-left-color:var(--bad)}
.box.require_human{border-left-color:var(--warn)}
.box.allow,.box.allow_with_snapshot{border-left-color:var(--good)}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;vertical-align:top;padding:.3rem .9rem .3rem 0;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--dim);white-space:nowrap}
td.n,th.n{text-align:right;white-space:nowrap}
td{overflow-wrap:break-word;min-width:3rem;max-width:34rem}
td .v{display:inline-block;min-width:7.5rem}
ul{margin:.4rem 0;padding-left:1.2rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem;margin:.5rem 0}
dt{color:var(--dim)}
dd{margin:0;overflow-wrap:anywhere}
svg{width:100%;height:auto;display:block}
svg text{fill:var(--dim);font:11px system-ui,sans-serif}
.s0{fill:var(--good)}.s1{fill:var(--bad)}.s2{fill:var(--warn)}.s3{fill:var(--bar)}.axis{stroke:var(--line)}
.key{display:inline-block;width:.7em;height:.7em;border-radius:2px;margin-right:.35em}
.key.s0{background:var(--good)}.key.s1{background:var(--bad)}.key.s2{background:var(--warn)}.key.s3{background:var(--bar)}
@media print{:root{color-scheme:light}main{max-width:none;padding:0}.wide{overflow:visible}tr{break-inside:avoid}}
@media(max-width:40rem){dl{grid-template-columns:1fr}dt{margin-top:.4rem}}
`;
const STYLE_HASH = createHash("sha256").update(STYLE).digest("base64");

/** A whole page. */
export function pageText(title: string, body: Markup): string {
  const policy = `default-src 'none'; style-src 'sha256-${STYLE_HASH}'; base-uri 'none'; form-action 'none'`;
  return `${
    html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>${title}</title>
<style>${new Markup(STYLE)}</style>
</head>
<body><main>
${body}
</main></body>
</html>`.text
  }\n`;
}

/** A figure with what it counts. `kind` colours it. */
export function tile(figure: string | number, of: string, kind: "" | "bad" | "warn" | "good" = ""): Markup {
  return html`<div class="tile"><b class="${kind}">${figure}</b><span class="dim">${of}</span></div>`;
}

/** A column: its head, and whether it holds numbers. */
export type Column = string | { number: string };

/** A table; nothing where there are no rows. */
export function rowsTable(
  columns: readonly Column[],
  rows: readonly (readonly (string | number | Markup)[])[],
): Markup {
  if (rows.length === 0) return new Markup("");
  const isNumber = columns.map((column) => typeof column !== "string");
  const head = columns.map((column) =>
    typeof column === "string"
      ? html`<th scope="col">${column}</th>`
      : html`<th scope="col" class="n">${column.number}</th>`,
  );
  const cells = (row: readonly (string | number | Markup)[]) =>
    row.map((cell, n) => (isNumber[n] ? html`<td class="n">${cell}</td>` : html`<td>${cell}</td>`));
  return html`<div class="wide"><table><thead><tr>${head}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${cells(row)}</tr>`)}</tbody></table></div>`;
}

/** Terms and what they mean; those without a text are left out. */
export function terms(pairs: readonly (readonly [string, string | Markup])[]): Markup {
  const shown = pairs.filter(([, text]) => text !== "");
  if (shown.length === 0) return new Markup("");
  return html`<dl>${shown.map(([term, text]) => html`<dt>${term}</dt><dd>${text}</dd>`)}</dl>`;
}

/** A section with a heading; nothing where its content is empty. */
export function section(title: string, ...content: readonly Markup[]): Markup {
  const filled = content.filter(({ text }) => text !== "");
  return filled.length === 0 ? new Markup("") : html`<section><h2>${title}</h2>${filled}</section>`;
}

export function bullets(items: readonly (string | Markup)[]): Markup {
  return items.length === 0 ? new Markup("") : html`<ul>${items.map((item) => html`<li>${item}</li>`)}</ul>`;
}

import { badArchive } from "./eco-archive.ts";

/*
 * The XML of nuspecs and NuGet.Config: elements, attributes and text. What makes one document mean different things to two readers is
 * refused: document types and their entities, encodings other than UTF-8, an attribute that is there twice. XML 1.0, fifth edition.
 */

const MAX_DEPTH = 32;
const MAX_NODES = 100_000;

export interface XmlElement {
  /** Without its namespace's prefix. */
  name: string;
  attributes: ReadonlyMap<string, string>;
  children: readonly XmlElement[];
  /** Its own text, without that of its children, trimmed. */
  text: string;
}

interface Open {
  tag: string;
  attributes: Map<string, string>;
  children: XmlElement[];
  text: string;
}

const NAME = "[A-Za-z_][\\w.:-]*";
const TOKEN = new RegExp(
  [
    "<!--(?<comment>(?:(?!--)[\\s\\S])*)-->",
    "<!\\[CDATA\\[(?<cdata>(?:(?!\\]\\]>)[\\s\\S])*)\\]\\]>",
    "<\\?(?:(?!\\?>)[\\s\\S])*\\?>",
    `</(?<close>${NAME})\\s*>`,
    `<(?<open>${NAME})(?<attributes>(?:\\s+${NAME}\\s*=\\s*(?:"[^"<]*"|'[^'<]*'))*)\\s*(?<empty>/?)>`,
    "(?<text>[^<]+)",
  ].join("|"),
  "y",
);
const ATTRIBUTE = new RegExp(`(${NAME})\\s*=\\s*(?:"([^"]*)"|'([^']*)')`, "g");
const ENTITIES: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

/**
 * The root element of a document.
 * @throws AegisError `refused` for what is no such document
 */
export function parseXml(bytes: Uint8Array): XmlElement {
  const text = decode(bytes);
  const open: Open[] = [];
  let root: XmlElement | null = null;
  let nodes = 0;
  const add = (element: XmlElement) => {
    const parent = open.at(-1);
    if (parent !== undefined) parent.children.push(element);
    else if (root !== null) throw bad("it has two root elements");
    else root = element;
  };
  for (TOKEN.lastIndex = 0; TOKEN.lastIndex < text.length; ) {
    const at = TOKEN.lastIndex;
    const found = TOKEN.exec(text)?.groups;
    if (found === undefined) throw bad(`it can't be read from character ${at}`);
    if (++nodes > MAX_NODES || open.length > MAX_DEPTH) throw bad("it is too large");
    const parent = open.at(-1);
    const content = found.cdata ?? (found.text === undefined ? undefined : unescaped(found.text));
    if (content !== undefined) {
      if (parent !== undefined) parent.text += content;
      else if (content.trim() !== "") throw bad("it has text outside its root element");
    } else if (found.open !== undefined) {
      const attributes = attributesOf(found.attributes ?? "");
      if (found.empty === "/") add({ name: localName(found.open), attributes, children: [], text: "" });
      else open.push({ tag: found.open, attributes, children: [], text: "" });
    } else if (found.close !== undefined) {
      const ended = open.pop();
      if (ended?.tag !== found.close) throw bad(`</${found.close}> ends nothing`);
      const { attributes, children } = ended;
      add({ name: localName(ended.tag), attributes, children, text: ended.text.trim() });
    }
  }
  if (root === null || open.length > 0) throw bad("it ends too early");
  return root;
}

/** The children of this name, or none. */
export function childrenOf(element: XmlElement | undefined, name: string): readonly XmlElement[] {
  return element?.children.filter((child) => child.name === name) ?? [];
}

/**
 * The one child of this name, or undefined.
 * @throws AegisError `refused` where there are two, which readers choose between in their own ways
 */
export function childOf(element: XmlElement | undefined, name: string): XmlElement | undefined {
  const [first, second] = childrenOf(element, name);
  if (second !== undefined) throw bad(`<${name}> is there twice`);
  return first;
}

function decode(bytes: Uint8Array): string {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    const encoding = /^<\?xml[^>]*\sencoding\s*=\s*["']([^"']*)["']/.exec(text)?.[1];
    if (encoding === undefined || /^utf-?8$/i.test(encoding)) return text.replaceAll("\r\n", "\n");
  } catch {
    // Told below.
  }
  throw bad("it is not UTF-8");
}

function localName(tag: string): string {
  return tag.slice(tag.indexOf(":") + 1);
}

function attributesOf(text: string): Map<string, string> {
  const attributes = new Map<string, string>();
  for (const [, name = "", double, single = ""] of text.matchAll(ATTRIBUTE)) {
    if (attributes.has(name)) throw bad(`${name} is there twice`);
    attributes.set(name, unescaped(double ?? single));
  }
  return attributes;
}

function unescaped(text: string): string {
  return text.replace(/&([^;&]{0,12});?/g, (reference, name: string) => {
    const code = /^#(?:x([0-9a-f]{1,6})|(\d{1,7}))$/i.exec(name);
    const number =
      code === null ? Number.NaN : Number.parseInt(code[1] ?? code[2] ?? "", code[1] === undefined ? 10 : 16);
    const isCharacter = number > 0 && number <= 0x10ffff && !(number >= 0xd800 && number <= 0xdfff);
    const known = Object.hasOwn(ENTITIES, name) ? ENTITIES[name] : undefined;
    const character = known ?? (isCharacter ? String.fromCodePoint(number) : undefined);
    if (character === undefined || !reference.endsWith(";"))
      throw bad(`${JSON.stringify(reference.slice(0, 20))} is no character`);
    return character;
  });
}

function bad(why: string) {
  return badArchive(`a document of XML can't be used: ${why}`);
}

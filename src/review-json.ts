/*
 * Finds JSON objects in untrusted text with prose around them. Linear time: an object, or a prefix of a broken one, is
 * never scanned twice.
 */

const MAX_DEPTH = 64;
/** Objects kept per text. 4 MiB can start four million; a real reply has a handful. */
const MAX_OBJECTS = 1000;

/** An object, or the start of a broken one. */
export interface ObjectInText {
  /** The source text; of a broken object, up to the syntax error. */
  source: string;
  /** Null if there is a `problem`. */
  value: object | null;
  problem: "" | "syntax" | "duplicate-key" | "depth" | "too-many";
}

/** Regular expression source that matches the start of an object. */
export const OBJECT_BEGIN = String.raw`\{(?=[ \t\n\r]*["}])`;

/** The top-level objects of the text, in order. */
export function objectsIn(text: string): ObjectInText[] {
  const begin = new RegExp(OBJECT_BEGIN, "g");
  const objects: ObjectInText[] = [];
  for (let match = begin.exec(text); match !== null; match = begin.exec(text)) {
    const found = objectAt(text, match.index);
    if (!keep(objects, found)) break;
    begin.lastIndex = match.index + found.source.length;
  }
  return objects;
}

/** Adds to the list. If the list is full, marks its last entry `too-many` and returns false. */
export function keep(objects: ObjectInText[], found: ObjectInText): boolean {
  const room = objects.length < MAX_OBJECTS;
  if (room) objects.push(found);
  else objects[MAX_OBJECTS - 1] = { source: "", value: null, problem: "too-many" };
  return room;
}

/**
 * The object that starts at `from`. Strict JSON (RFC 8259) without duplicate names, on which parsers disagree.
 */
export function objectAt(text: string, from: number): ObjectInText {
  const scanner = new Scanner(text, from);
  const whole = scanner.object(1);
  const problem = whole ? (scanner.duplicate ? "duplicate-key" : "") : scanner.tooDeep ? "depth" : "syntax";
  const source = text.slice(from, scanner.at);
  const value: unknown = problem === "" ? JSON.parse(source) : null;
  return { source, value: typeof value === "object" ? value : null, problem };
}

const SPACE = /[ \t\n\r]*/y;
const PLAIN_CHARACTERS = /[^"\\\u0000-\u001f]*/y;
const ESCAPE = /\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})/y;
const SCALAR = /true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;

/** Finds the end of a value. Each method moves `at` past what it is named after, or stops at the first syntax error. */
class Scanner {
  duplicate = false;
  tooDeep = false;

  constructor(
    readonly text: string,
    public at: number,
  ) {}

  object(depth: number): boolean {
    const names = new Set<string>();
    return this.list(depth, "{", "}", () => {
      const from = this.at;
      if (!this.string()) return false;
      const name: string = JSON.parse(this.text.slice(from, this.at));
      this.duplicate ||= names.has(name);
      names.add(name);
      this.skip(SPACE);
      return this.take(":") && this.value(depth);
    });
  }

  private value(depth: number): boolean {
    this.skip(SPACE);
    switch (this.text[this.at]) {
      case "{":
        return this.object(depth + 1);
      case "[":
        return this.list(depth + 1, "[", "]", () => this.value(depth + 1));
      case '"':
        return this.string();
      default:
        return this.skip(SCALAR);
    }
  }

  private list(depth: number, begin: string, end: string, item: () => boolean): boolean {
    this.tooDeep ||= depth > MAX_DEPTH;
    if (this.tooDeep || !this.take(begin)) return false;
    this.skip(SPACE);
    if (this.take(end)) return true;
    for (;;) {
      this.skip(SPACE);
      if (!item()) return false;
      this.skip(SPACE);
      if (this.take(end)) return true;
      if (!this.take(",")) return false;
    }
  }

  private string(): boolean {
    if (!this.take('"')) return false;
    do this.skip(PLAIN_CHARACTERS);
    while (this.skip(ESCAPE));
    return this.take('"');
  }

  private take(character: string): boolean {
    if (this.text[this.at] !== character) return false;
    this.at++;
    return true;
  }

  /** Moves past a match of the sticky expression. */
  private skip(expression: RegExp): boolean {
    expression.lastIndex = this.at;
    if (!expression.test(this.text)) return false;
    this.at = expression.lastIndex;
    return true;
  }
}

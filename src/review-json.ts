/*
 * JSON objects that stand in text which somebody else wrote, prose before and after them. The text is read once from
 * start to end: what has been part of an object, or of something that began like one, is not looked at again, so the
 * work grows with the text's length and no faster.
 */

const MAX_DEPTH = 64;
/** Objects kept of one text: four million can begin in 4 MiB, and a reply has a handful. */
const MAX_OBJECTS = 1000;

/** One object, or something that began like one. */
export interface ObjectInText {
  /** As it stands in the text; a broken one as far as JSON allows it. */
  source: string;
  /** Null where `problem` says why it can't be used. */
  value: object | null;
  problem: "" | "syntax" | "duplicate-key" | "depth" | "too-many";
}

/** How an object begins, for a regular expression. A brace before anything else is no JSON. */
export const OBJECT_BEGIN = String.raw`\{(?=[ \t\n\r]*["}])`;

/** The outermost objects of the text, in their order; those inside them are part of their value. */
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

/** Adds to the list. Where it is full, its last becomes one with the problem `too-many`, and the answer is false. */
export function keep(objects: ObjectInText[], found: ObjectInText): boolean {
  const room = objects.length < MAX_OBJECTS;
  if (room) objects.push(found);
  else objects[MAX_OBJECTS - 1] = { source: "", value: null, problem: "too-many" };
  return room;
}

/**
 * The object that begins at `from`. Strict JSON (RFC 8259), and a name may stand only once in an object:
 * with two, readers differ in which one counts.
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

/** Finds where a value ends; each method moves `at` past what it names, or stops where the grammar is broken. */
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

  /** Moves past what the sticky expression matches here. */
  private skip(expression: RegExp): boolean {
    expression.lastIndex = this.at;
    if (!expression.test(this.text)) return false;
    this.at = expression.lastIndex;
    return true;
  }
}

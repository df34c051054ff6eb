/*
 * Which dependencies are for this host: a dependency's `target` is a triple or a `cfg(…)` expression.
 * https://doc.rust-lang.org/reference/conditional-compilation.html
 */

/** rustc's targets by dpkg architecture: triple, `target_arch`, `target_pointer_width`. */
const RUST_TARGETS: Readonly<Record<string, readonly [triple: string, arch: string, width: string]>> = {
  amd64: ["x86_64-unknown-linux-gnu", "x86_64", "64"],
  arm64: ["aarch64-unknown-linux-gnu", "aarch64", "64"],
  i386: ["i686-unknown-linux-gnu", "x86", "32"],
  armhf: ["armv7-unknown-linux-gnueabihf", "arm", "32"],
  ppc64el: ["powerpc64le-unknown-linux-gnu", "powerpc64", "64"],
  s390x: ["s390x-unknown-linux-gnu", "s390x", "64"],
  riscv64: ["riscv64gc-unknown-linux-gnu", "riscv64", "64"],
};

/** `target_has_atomic` on every one of these. */
const ATOMIC: ReadonlySet<string> = new Set(['"8"', '"16"', '"32"', '"64"', '"ptr"']);
/** Set by the compiler in ways that differ between its versions and machines. */
const VARIES = /^(?:target_\w+|panic|debug_assertions|relocation_model)$/;
/** Far more than anybody writes; keeps the nesting within the stack. */
const MAX_TARGET = 4096;

/**
 * Whether a dependency's `target` is for a host of this dpkg architecture. What varies between compilers, and what can't be read,
 * counts as holding: then a crate too many is planned, and none too few. Names that only a compiler's flags could set never hold,
 * since a run has none.
 */
export function isForTarget(target: string | null, architecture: string): boolean {
  const host = RUST_TARGETS[architecture];
  if (target === null || host === undefined || target.length > MAX_TARGET) return true;
  const [triple, arch, width] = host;
  const expression = /^\s*cfg\s*\((.*)\)\s*$/s.exec(target)?.[1];
  if (expression === undefined) return target === triple;
  const known = new Map([
    ["target_os", "linux"],
    ["target_family", "unix"],
    ["target_env", "gnu"],
    ["target_vendor", "unknown"],
    ["target_endian", architecture === "s390x" ? "big" : "little"],
    ["target_arch", arch],
    ["target_pointer_width", width],
  ]);
  return new Expression(expression, known).value() !== false;
}

/** A `cfg` expression. Values are true, false, or null for unknown. */
class Expression {
  readonly #tokens: readonly string[];
  readonly #known: ReadonlyMap<string, string>;
  #at = 0;

  constructor(text: string, known: ReadonlyMap<string, string>) {
    this.#tokens = text.match(/[A-Za-z_][A-Za-z0-9_]*|"[^"]*"|\S/g) ?? [];
    this.#known = known;
  }

  value(): boolean | null {
    const value = this.#predicate();
    return this.#at === this.#tokens.length ? value : null;
  }

  #predicate(): boolean | null {
    const word = this.#next();
    if (this.#tokens[this.#at] === "(") return this.#group(word);
    if (this.#tokens[this.#at] !== "=") return this.#flag(word);
    this.#at++;
    const value = this.#next();
    if (word === "target_has_atomic" && ATOMIC.has(value)) return true;
    const known = this.#known.get(word);
    if (known !== undefined) return value === `"${known}"`;
    return VARIES.test(word) || !value.startsWith('"') ? null : false;
  }

  #flag(word: string): boolean | null {
    if (word === "unix" || word === "true") return true;
    return VARIES.test(word) || !/^[A-Za-z_]/.test(word) ? null : false;
  }

  #group(word: string): boolean | null {
    this.#at++;
    const values: (boolean | null)[] = [];
    while (this.#at < this.#tokens.length && this.#tokens[this.#at] !== ")") {
      values.push(this.#predicate());
      if (this.#tokens[this.#at] === ",") this.#at++;
    }
    this.#at++;
    const [first] = values;
    if (word === "not") return values.length === 1 && typeof first === "boolean" ? !first : null;
    if (word === "any") return values.includes(true) ? true : values.includes(null) ? null : false;
    if (word === "all") return values.includes(false) ? false : values.includes(null) ? null : true;
    return null;
  }

  #next(): string {
    return this.#tokens[this.#at++] ?? "";
  }
}
